// The whole machine for one image: units, memory, and the loop that lets time pass.
#pragma once

#include "issue.hpp"
#include "record.hpp"

class Machine {
public:
    Machine(const Constants& k, const Program& program, Count low_mask, Count high_mask, bool exits_low)
        : k(&k), program(program), exits_low(exits_low), weights(k), side(k), fetch(k, program, low_mask, high_mask),
          issue(exits_low), ports(1 + k.weight_ports) {}

    // Keep what happens.
    void watch(std::vector<Span>& spans) {
        trace.spans = &spans;
        fetch.trace = side.trace = issue.trace = record.trace = trace;
    }

    // Go on until the fetch looks at `descriptor`, whose fate depends on its encoder's bit of the low mask: `keep` sets it.
    void run_to(Count descriptor) {
        fetch.hold = descriptor;
        settle();
        while (!fetch.held()) step();
        forget();
    }
    void keep(Count encoder, bool kept) {
        const Count bit = Count(1) << encoder;
        fetch.masks[0] = kept ? fetch.masks[0] | bit : fetch.masks[0] & ~bit;
        fetch.hold = -1;
    }

    // To the end of the flush after the image.
    void run() {
        settle();
        while (record.done == UNKNOWN) step();
        const Cycle flush = record.done + 1;
        end = std::max(flush + k->flush_cycles, idle(flush));
        // The last evaluation's unit is at rest with the rest of the machine.
        trace.add(TRACK_GATE, issue.gate_done.back().begin + 1, end + 1, issue.gate_done.back().descriptor);
    }

    // Counters so far; `cycles` up to the fetch's, or the end's.
    Counters counters() const {
        Counters result = issue.counters;
        const auto set = [&](int offset, std::int64_t value) { result[counter(offset)] = value; };
        if (end != UNKNOWN) {
            const auto& [cycle, descriptor, _] = issue.gate_done.back();
            result[counter(PIVOT_COUNTER_GATE_CYCLES)] += end - cycle;
            result[counter(PIVOT_COUNTER_OPERATION_OTHER) + program[descriptor].operation()] += end - cycle;
        }
        Count weight_beats = 0;
        for (Count port = 1; port < Count(ports.size()); ++port) weight_beats += ports[port].beats;
        set(PIVOT_COUNTER_CYCLES, end == UNKNOWN ? fetch.now() : end + 1);
        set(PIVOT_COUNTER_DESCRIPTORS, fetch.executed);
        set(PIVOT_COUNTER_DESCRIPTORS_SKIPPED, fetch.skipped);
        set(PIVOT_COUNTER_WEIGHT_BYTES, weight_beats * k->axi_bytes);
        set(PIVOT_COUNTER_SYSTEM_BYTES_READ, ports[0].beats * k->axi_bytes);
        set(PIVOT_COUNTER_SYSTEM_BYTES_WRITTEN, record.beats * k->axi_bytes);
        set(PIVOT_COUNTER_EXITS_LOW, end != UNKNOWN && exits_low);
        return result;
    }

    // Equal for two machines, both held before the same descriptor, that behave alike from now on.
    std::vector<std::int64_t> fingerprint() const {
        const Cycle now = fetch.now();
        Fingerprint f(now, std::min(now, next().cycle) - k->look_back);
        bus.describe(f, *k);
        for (const Port& port : ports) port.describe(f);
        fetch.describe(f);
        weights.describe(f, issue.tiles(), issue.released());
        side.describe(f);
        issue.describe(f, side);
        return f.numbers;
    }

private:
    enum Kind { READ, WRITE, TABLE };
    // The earliest transfer or table release that is known; nothing unknown can come before it.
    struct Event {
        Cycle cycle = NEVER;
        Kind kind = READ;
        Count number = 0; // of the port, or kind of the table
        bool second = false; // reader of port 0
    };

    Event next() const {
        Event first;
        const bool second = ports[0].seen(side.segments.reader) < ports[0].seen(fetch.reader);
        const auto consider = [&](Event event) { if (event.cycle < first.cycle) first = event; };
        consider({ports[0].next(*k, second ? side.segments.reader : fetch.reader), READ, 0, second});
        for (Count port = 1; port < Count(ports.size()); ++port)
            consider({ports[port].next(*k, weights.ports[port - 1].segments.reader), READ, port});
        consider({record.write, WRITE});
        for (Count kind : {0, 1}) consider({issue.tables[kind].due, TABLE, kind});
        return first;
    }

    void step() {
        const Event event = next();
        if (event.cycle == NEVER) throw std::logic_error("Cycle model must always know a next event");
        bool seen = true; // by another unit; most bursts of weights only fill their port
        if (event.kind == READ) {
            BurstReader& reader = event.number    ? weights.ports[event.number - 1].segments.reader
                                  : event.second ? side.segments.reader
                                                 : fetch.reader;
            accept(event.number, event.cycle, reader);
            if (event.number) seen = weights.absorb(*k, program, event.number - 1);
        } else if (event.kind == WRITE) {
            record.accept(*k, bus);
        } else {
            issue.tables[event.number].release(side.table_room[event.number]);
        }
        if (seen) settle();
        if (!(++steps % 256)) forget();
    }

    void accept(Count port, Cycle cycle, BurstReader& reader) {
        const Count beats = reader.size;
        ports[port].accept(*k, bus, cycle, reader);
        trace.add(TRACK_PORT + port, cycle, ports[port].arrived + 1, -1, beats);
    }

    // Let every unit find out what follows from what is known.
    void settle() {
        for (bool moved = true; moved;) {
            moved = fetch.advance(*k, program, weights, side);
            moved |= weights.advance(*k, program);
            moved |= side.advance(*k, program);
            moved |= issue.advance(*k, program, fetch, weights, side);
        }
        for (; evaluations < issue.gate_done.size(); ++evaluations) {
            const auto& [cycle, descriptor, _] = issue.gate_done[evaluations];
            const Descriptor d = program[descriptor];
            if (d.opcode() == PIVOT_OPCODE_END || exits_low) record.begin(*k, cycle + 1, d.classes());
        }
    }

    // First cycle without a descriptor read in flight; no burst is issued from `flush` on.
    Cycle idle(Cycle flush) {
        while (fetch.reader.rise <= flush) {
            const bool second = ports[0].seen(side.segments.reader) < ports[0].seen(fetch.reader);
            BurstReader& reader = second ? side.segments.reader : fetch.reader;
            accept(0, ports[0].next(*k, reader), reader);
            settle();
        }
        return fetch.reader.last_arrivals.back() + 1;
    }

    void forget() {
        fetch.forget(*k);
        weights.forget(*k, issue.tiles());
        side.forget(*k);
        issue.forget(side);
        for (Port& port : ports) port.forget(*k);
    }

    const Constants* k;
    Program program;
    bool exits_low;
    Bus bus;
    WeightSide weights;
    SideLoader side;
    Fetch fetch;
    Issue issue;
    RecordWriter record;
    Trace trace;
    std::vector<Port> ports; // the system port, then the weight ports
    Count evaluations = 0, steps = 0;
    Cycle end = UNKNOWN;
};
