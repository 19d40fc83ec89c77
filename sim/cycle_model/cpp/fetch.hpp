// Descriptor fetch, check and dispatch (hw/control/fetch.py, descriptor_check.py).
#pragma once

#include "weights.hpp"

// The buffered queue of checked descriptors between fetch and issue.
struct EntryQueue {
    Sequence<Count> descriptors; // that entered,
    Times pushes, pops;          // and the cycles in which each enters and is taken by the issue

    // Cycle in which an entry moves to the queue's output register; the entries before it are taken.
    Cycle moves(Count number) const { return std::max(pushes[number] + 1, number ? pops[number - 1] : 0); }

    // First cycle in which the next entry may enter, or UNKNOWN.
    Cycle room(const Constants& k) const {
        const Count blocking = pushes.size() - (k.queue_depth - 1);
        if (blocking < 0) return 0;
        if (pops.size() < blocking) return UNKNOWN;
        return std::max(pushes[blocking] + 1, blocking ? pops[blocking - 1] : 0) + 1;
    }

    void forget(const Constants& k) {
        descriptors.forget(pops.size());
        pushes.forget(std::min(pops.size(), pushes.size() - (k.queue_depth - 1)));
        pops.forget(std::min(pops.size() - 1, pushes.size() - k.queue_depth));
    }

    void describe(Fingerprint& f) const {
        f.number(pushes.size() - pops.size());
        for (Count i = pops.size(); i < descriptors.size(); ++i) f.number(descriptors[i]);
        f.sequence(pushes), f.sequence(pops);
    }
};

class Fetch {
public:
    EntryQueue entries;
    BurstReader reader;
    Times proceed; // of each gate: leave to go on
    Count executed = 0, skipped = 0;
    Count masks[2] = {0, 0};
    Trace trace;
    Count hold; // descriptor before whose fate the fetch waits; none: negative

    Fetch(const Constants& k, const Program& program, Count low, Count high) : hold(-1), free(k.image_start + 2) {
        masks[0] = low, masks[1] = high;
        reader.commands.put({k.image_start + 1, 0, program.descriptors * beats(k)});
    }

    bool held() const { return stage == DROP && index == hold; }
    Cycle now() const { return free; }

    bool advance(const Constants& k, const Program& program, WeightSide& weights, SideLoader& side) {
        const auto events = [&] { return reader.pops.size() + entries.pushes.size() + weights.pushes.size() + side.pushes.size(); };
        const Count before = events();
        bool moved = reader.advance(k);
        while (step(k, program, weights, side)) moved = true;
        return moved || events() != before;
    }

    void forget(const Constants& k) {
        reader.arrivals.forget(beat);
        reader.pops.forget(reader.oldest_pop(k));
        reader.forget(k);
        entries.forget(k);
        proceed.forget(gates);
    }

    void describe(Fingerprint& f) const {
        reader.describe(f);
        entries.describe(f);
        f.number(index), f.number(stage), f.number(reader.arrivals.size() - beat), f.number(proceed.size() - gates);
        f.cycle(free); // only at a hold: nothing is being dispatched
    }

private:
    enum Stage { READ, DROP, DISPATCH, GATE, END };

    static Count beats(const Constants& k) { return PIVOT_DESCRIPTOR_BYTES / k.axi_bytes; }

    bool step(const Constants& k, const Program& program, WeightSide& weights, SideLoader& side) {
        if (stage == READ) {
            if (index == program.descriptors) return false;
            for (; beat < (index + 1) * beats(k); ++beat) {
                if (reader.arrivals.size() <= beat) return false;
                free = std::max(free, reader.arrivals[beat] + BurstReader::latency(k));
                reader.pops.put(free++);
            }
            stage = DROP;
        } else if (stage == DROP) {
            if (held()) return false;
            const Descriptor d = program[index];
            if (d.flags() & PIVOT_FLAG_ATTENTION && !(masks[bool(d.flags() & PIVOT_FLAG_HIGH)] >> d.encoder() & 1)) {
                trace.add(TRACK_FETCH, free, free + 1, index, 1);
                ++skipped, ++free, ++index;
                stage = READ;
            } else {
                begin(k, d, free + k.check_cycles[d.opcode()] + 1);
            }
        } else if (stage == DISPATCH) {
            if (!dispatch(k, weights, side)) return false;
            free = std::max({entry_cycle, weight_cycle, side_cycle}) + 2;
            trace.add(TRACK_FETCH, free - 1, free, index);
            ++executed;
            const int opcode = program[index++].opcode();
            stage = opcode == PIVOT_OPCODE_END ? END : opcode == PIVOT_OPCODE_GATE ? GATE : READ;
        } else if (stage == GATE) {
            if (proceed.size() <= gates) return false;
            free = proceed[gates++] + 1;
            stage = READ;
        } else {
            return false;
        }
        return true;
    }

    void begin(const Constants& k, const Descriptor& d, Cycle at) {
        start = at;
        entry_cycle = UNKNOWN;
        side_cycle = start - 1;
        const bool gemm = d.opcode() == PIVOT_OPCODE_GEMM;
        weight_cycle = gemm && !(d.flags() & PIVOT_FLAG_KV) ? UNKNOWN : start - 1;
        jobs_left = 0;
        if (d.opcode() == PIVOT_OPCODE_LOAD) jobs[jobs_left++] = {k.job_rows, index, false};
        if (d.opcode() == PIVOT_OPCODE_SOFTMAX) jobs[jobs_left++] = {k.job_table, index, true};
        // The last one goes first.
        if (gemm && d.flags() & PIVOT_FLAG_PER_COLUMN) jobs[jobs_left++] = {k.job_parameters, index, false};
        const bool exponential = gemm && !k.exp_units && d.flags() & PIVOT_FLAG_EXP;
        if (exponential || (gemm && d.gemm().post == PIVOT_POST_ACTIVATION)) jobs[jobs_left++] = {k.job_table, index, exponential};
        stage = DISPATCH;
    }

    // Hand the descriptor to the units; whether all have it.
    bool dispatch(const Constants& k, WeightSide& weights, SideLoader& side) {
        const auto room = [&](const Times& pops, Count number) {
            return number < k.queue_depth ? 0 : pops.size() > number - k.queue_depth ? pops[number - k.queue_depth] + 1 : UNKNOWN;
        };
        if (entry_cycle == UNKNOWN) {
            if (const Cycle cycle = entries.room(k); cycle != UNKNOWN) {
                entry_cycle = std::max(start, cycle);
                entries.pushes.put(entry_cycle), entries.descriptors.put(index);
            }
        }
        if (weight_cycle == UNKNOWN) {
            if (const Cycle cycle = room(weights.pops, weights.pushes.size()); cycle != UNKNOWN) {
                weight_cycle = std::max(start, cycle);
                weights.pushes.put(weight_cycle), weights.jobs.put(index);
            }
        }
        while (jobs_left) {
            const Cycle cycle = room(side.pops, side.pushes.size());
            if (cycle == UNKNOWN) break;
            side_cycle = std::max(side_cycle + 1, cycle);
            side.pushes.put(side_cycle), side.jobs.put(jobs[--jobs_left]);
        }
        return entry_cycle != UNKNOWN && weight_cycle != UNKNOWN && !jobs_left;
    }

    Stage stage = READ;
    Count index = 0, beat = 0, gates = 0;
    Cycle free, start = 0, entry_cycle = 0, weight_cycle = 0, side_cycle = 0;
    SideJob jobs[2]{};
    Count jobs_left = 0;
};
