// The memory's read ports, and the burst readers behind them (hw/memory/burst_reader.py, read_arbiter.py, docs/memory-model.md).
#pragma once

#include "constants.hpp"
#include "sequence.hpp"

// The bandwidth that all ports share: `hw.memory_timing.MemorySchedule` for whole bursts.
struct Bus {
    Count given = 0;

    // Cycles in which the beats of a burst are taken; the first at `earliest` or later, then at most one a cycle.
    Cycle read(const Constants& k, Cycle cycle, Count beats, Cycle earliest, Times& arrivals) {
        const Count rate = k.bytes_per_cycle, size = k.axi_bytes;
        const Count start = std::max(given, (cycle + k.memory_latency) * rate);
        given = start + beats * size;
        Cycle taken = earliest - 1;
        if (size <= rate) {
            const Cycle begin = std::max(earliest, (start + size - 1) / rate);
            Cycle* arrival = arrivals.extend(beats);
            for (Count beat = 0; beat < beats; ++beat) arrival[beat] = begin + beat;
            taken = begin + beats - 1;
        } else {
            for (Count due = start + size - 1; due < given; due += size) {
                taken = std::max(taken + 1, due / rate);
                arrivals.put(taken);
            }
        }
        return taken;
    }

    // Earliest response to a beat written in `cycle`, if it is its burst's last.
    Cycle write(const Constants& k, Cycle cycle) {
        given = std::max(given, cycle * k.bytes_per_cycle) + k.axi_bytes;
        return std::max(cycle + k.memory_latency, (given - 1) / k.bytes_per_cycle);
    }

    void describe(Fingerprint& f, const Constants& k) const {
        f.number(std::max(given, f.oldest * k.bytes_per_cycle) - f.origin * k.bytes_per_cycle);
    }
};

// Beats that are asked for, burst by burst.
struct BurstReader {
    struct Command {
        Cycle accepted;
        Count address, beats;
    };
    Sequence<Command> commands;
    Times final_issue;   // of each command: the cycle in which its last burst is issued; the next may be accepted then
    Times arrivals;      // of each beat, on the bus
    Times pops;          // of each beat: leaves the FIFO; extended by whoever takes them
    Times last_arrivals; // of each burst
    Cycle rise = NEVER;  // first cycle in which the address that is asked for is on the bus
    Count size = 0;      // beats of that burst

    // At least this many cycles from arrival to pop.
    static Cycle latency(const Constants& k) { return k.outstanding * k.burst_beats > 1 ? 2 : 1; }

    bool advance(const Constants& k) {
        const Count capacity = k.outstanding * k.burst_beats, beat_boundary = k.burst_boundary / k.axi_bytes;
        bool moved = false;
        while (rise == NEVER) {
            if (!left) {
                if (commands.size() <= next) break;
                const Command& command = commands[next++];
                beat = command.address / k.axi_bytes;
                left = command.beats;
                cycle = command.accepted + 1;
            }
            const Count burst = std::min({k.burst_beats, left, beat_boundary - beat % beat_boundary});
            const Count room = asked + burst - capacity - 1; // the beat that must have left
            if (room >= pops.size()) break;
            if (bursts) cycle = std::max(cycle, accepted);
            if (room >= 0) cycle = std::max(cycle, pops[room] + 1);
            if (bursts >= k.outstanding) cycle = std::max(cycle, last_arrivals[bursts - k.outstanding] + 1);
            asked += burst, beat += burst, left -= burst, ++bursts;
            if (!left) final_issue.put(cycle);
            size = burst;
            rise = cycle + 1;
            moved = true;
        }
        return moved;
    }

    // The address is accepted; the burst's last beat comes in cycle `last`.
    void accept(Cycle at, Cycle last) {
        accepted = at;
        last_arrivals.put(last);
        rise = NEVER;
    }

    void forget(const Constants& k) {
        commands.forget(next);
        final_issue.forget(final_issue.size() - 1);
        last_arrivals.forget(bursts - k.outstanding);
    }

    // First beat whose pop may be asked for.
    Count oldest_pop(const Constants& k) const { return asked - k.outstanding * k.burst_beats; }

    void describe(Fingerprint& f) const {
        f.number(commands.size() - next);
        for (Count i = next; i < commands.size(); ++i) {
            f.cycle(commands[i].accepted), f.number(commands[i].address), f.number(commands[i].beats);
        }
        f.number(commands.size() - final_issue.size());
        for (const Times* times : {&final_issue, &arrivals, &pops, &last_arrivals}) f.sequence(*times);
        f.number(asked - arrivals.size()), f.number(asked - pops.size()), f.number(bursts - last_arrivals.size());
        f.number(left), f.number(left ? beat : 0), f.number(rise == NEVER ? 0 : size);
        if (left) f.cycle(cycle);
        f.cycle(accepted);
        f.number(rise == NEVER);
        if (rise != NEVER) f.cycle(rise);
    }

private:
    Count next = 0, beat = 0, left = 0, asked = 0, bursts = 0;
    Cycle cycle = 0, accepted = UNKNOWN;
};

// What the memory remembers of one AXI read port.
struct Port {
    Times last_arrivals; // of each burst
    Cycle accepted = -1, arrived = -1;
    Count beats = 0; // accepted, not all arrived yet

    // Cycle in which the address of `reader` would be accepted.
    Cycle next(const Constants& k, const BurstReader& reader) const {
        if (reader.rise == NEVER) return NEVER;
        Cycle cycle = std::max(reader.rise, accepted + 1);
        const Count bursts = last_arrivals.size();
        return bursts < k.memory_outstanding ? cycle : std::max(cycle, last_arrivals[bursts - k.memory_outstanding] + 1);
    }

    // Earliest cycle in which the port could look at `reader`: who comes first is served first.
    Cycle seen(const BurstReader& reader) const { return reader.rise == NEVER ? NEVER : std::max(reader.rise, accepted + 1); }

    void accept(const Constants& k, Bus& bus, Cycle cycle, BurstReader& reader) {
        arrived = bus.read(k, cycle, reader.size, arrived + 1, reader.arrivals);
        accepted = cycle;
        last_arrivals.put(arrived);
        beats += reader.size;
        reader.accept(cycle, arrived);
    }

    void forget(const Constants& k) { last_arrivals.forget(last_arrivals.size() - k.memory_outstanding); }

    void describe(Fingerprint& f) const { f.sequence(last_arrivals), f.cycle(accepted), f.cycle(arrived); }
};
