// The issue: the only place where the machine waits (hw/control/issue.py, gemm_issue.py, norm_issue.py, table_credits.py).
#pragma once

#include <array>
#include <stdexcept>

#include "fetch.hpp"

constexpr int COUNTERS = PIVOT_COUNTER_OPERATION_GATE / 4 - PIVOT_COUNTER_CYCLES / 4 + 1;
using Counters = std::array<std::int64_t, COUNTERS>;

// Place of a counter, from its byte offset in pivot.h.
constexpr int counter(int offset) { return (offset - PIVOT_COUNTER_CYCLES) / 4; }

// When the slots of one kind of table are free again: `delay` cycles after a use that no other follows.
struct TableReleases {
    Cycle due = NEVER; // of the next release, unless a further use comes before it
    Count owed = 0;

    void end(Cycle cycle, Cycle delay, Times& room) {
        while (due <= cycle) release(room);
        ++owed;
        due = cycle + 1 + delay;
    }
    void release(Times& room) {
        room.put(due + 1);
        due = --owed ? due + 1 : NEVER;
    }
};

class Issue {
public:
    Counters counters{};
    TableReleases tables[2];
    // Of every GATE and the END: the cycle in which the gate has evaluated, the descriptor, and the cycle before the evaluation.
    struct Evaluation {
        Cycle cycle;
        Count descriptor;
        Cycle begin;
    };
    Sequence<Evaluation> gate_done;
    Trace trace;

    explicit Issue(bool exits_low) : exits_low(exits_low) {}

    Count tiles() const { return tiles_taken; }
    Count released() const { return words_released; }

    bool advance(const Constants& k, const Program& program, Fetch& fetch, WeightSide& weights, SideLoader& side) {
        bool moved = false;
        while (take(program, fetch) || execute(k, program, fetch, weights, side)) moved = true;
        return moved;
    }

    void forget(SideLoader& side) {
        taken.forget(executed);
        begun.forget(begun.size() - 1);
        free.forget(free.size() - 1);
        gate_done.forget(gate_done.size() - 1);
        side.parameter_credits.forget(parameter_tiles);
        for (int kind : {0, 1}) side.table_credits[kind].forget(tables_used[kind]);
    }

    void describe(Fingerprint& f, const SideLoader& side) const;

private:
    struct Taken {
        Cycle cycle;
        Count descriptor;
        Cycle available; // first cycle in which only a NORM at work was waited for
    };
    // What a NORM does beside the issue: cycle from which each row tile may be fed, first cycle in which it is no longer at work.
    struct Norm {
        std::vector<Cycle> ready;
        Cycle idle = 0;
    };
    enum Stage { NEXT, GEMM, LOAD, SOFTMAX, END };
    enum Operand { WEIGHTS, PARAMETERS, ACTIVATION_TABLE, EXP_TABLE, READY };

    static bool ends(const Descriptor& d, bool exits_low) {
        return d.opcode() == PIVOT_OPCODE_END || (d.opcode() == PIVOT_OPCODE_GATE && exits_low);
    }
    std::int64_t& count(int offset) { return counters[counter(offset)]; }
    // The issue waits from `begin` to before `end`, for the cause with that counter.
    void stall(int cause, Cycle begin, Cycle end) {
        count(cause) += end - begin;
        trace.add(TRACK_STALL, begin, end, -1, counter(cause) - counter(PIVOT_COUNTER_STALL_WEIGHTS));
    }
    std::int64_t& operation(const Descriptor& d) { return counters[counter(PIVOT_COUNTER_OPERATION_OTHER) + d.operation()]; }

    // Take a descriptor from the queue: in order, a NORM beside the GEMM before it.
    bool take(const Program& program, Fetch& fetch) {
        EntryQueue& entries = fetch.entries;
        if (done_taking || entries.pushes.size() <= entries.pops.size()) return false;
        const Count number = entries.pops.size(), index = entries.descriptors[number];
        const Descriptor d = program[index];
        const bool norm = d.opcode() == PIVOT_OPCODE_NORM;
        Cycle cycle = std::max(entries.moves(number), last_taken) + 1;
        if (norm && early) {
            if (begun.size() < gemms) return false;
            cycle = std::max(cycle, begun[gemms - 1]);
        } else if (others) {
            if (free.size() < others) return false;
            cycle = std::max(cycle, free[others - 1]);
        }
        const Cycle available = cycle;
        if (norm) {
            if (norms_done < norms) return false;
            cycle = std::max(cycle, last_norm.idle);
            ++norms;
        } else {
            ++others;
            gemms += d.opcode() == PIVOT_OPCODE_GEMM;
            early = d.opcode() == PIVOT_OPCODE_GEMM && d.gemm().post == PIVOT_POST_RESIDUAL && !(d.flags() & PIVOT_FLAG_NORMALIZED);
        }
        entries.pops.put(cycle);
        taken.put({cycle, index, available});
        last_taken = cycle;
        done_taking = ends(d, exits_low);
        return true;
    }

    bool execute(const Constants& k, const Program& program, Fetch& fetch, WeightSide& weights, SideLoader& side) {
        if (stage == GEMM) return step_gemm(k, program[at_hand.descriptor], weights, side);
        if (stage == LOAD) return end_load(program[at_hand.descriptor], side);
        if (stage == SOFTMAX) return pass(k, program[at_hand.descriptor], side);
        if (stage == END || taken.size() <= executed) return false;
        at_hand = taken[executed++];
        const Descriptor d = program[at_hand.descriptor];
        const Cycle cycle = at_hand.cycle;
        if (cycle > last) {
            const Cycle waits = std::max<Cycle>(0, cycle - std::max(at_hand.available, last + 1));
            stall(PIVOT_COUNTER_STALL_FETCH, last + 1, cycle - waits);
            stall(PIVOT_COUNTER_STALL_NORM, cycle - waits, cycle);
            stall(PIVOT_COUNTER_STALL_FETCH, cycle, cycle + 1);
            count(PIVOT_COUNTER_OPERATION_NORM) += waits, count(PIVOT_COUNTER_OPERATION_OTHER) += cycle - last - waits;
            last = cycle;
        }
        if (d.opcode() == PIVOT_OPCODE_NORM) {
            normalize(k, d);
        } else if (d.opcode() == PIVOT_OPCODE_GEMM) {
            begin_gemm(d);
        } else {
            begin_other(k, d, fetch, side);
        }
        return true;
    }

    // `NormIssue`: statistics of one row tile beside the pass of the one before.
    void normalize(const Constants& k, const Descriptor& d) {
        const Count words = d.norm().words, row_tiles = d.norm().row_tiles;
        const bool waits = d.flags() & PIVOT_FLAG_WAIT;
        if (!waits && has_residual && row_tiles > Count(residual.size()))
            throw std::invalid_argument("A NORM of more row tiles than the RESIDUAL GEMM before must have FLAG_WAIT");
        const Cycle length = words * k.norm_steps, ready = length - words + k.norm_latency;
        Cycle begin = std::max(at_hand.cycle + 1, waits ? settled : 0), passed = begin; // earliest next statistics; end of the pass before
        last_norm.ready.clear();
        for (Count row_tile = 0; row_tile < row_tiles; ++row_tile) {
            const Cycle at = has_residual && !waits ? std::max(begin, residual[row_tile]) : begin;
            begin = std::max(at + k.statistics_latency, passed); // the pass, and the next statistics
            passed = begin + length;
            trace.add(TRACK_NORM, begin + 1, passed + 1);
            last_norm.ready.push_back(begin + ready);
        }
        count(PIVOT_COUNTER_NORM_CYCLES) += row_tiles * length;
        last_norm.idle = passed - 1 + k.norm_latency;
        ++norms_done;
    }

    void begin_other(const Constants& k, const Descriptor& d, Fetch& fetch, SideLoader& side) {
        const Cycle quiet = std::max(at_hand.cycle + 1, settled);
        norm_waits = norms_done ? std::max<Cycle>(0, last_norm.idle - quiet) : 0;
        const Cycle begin = quiet + norm_waits;
        stall(PIVOT_COUNTER_STALL_DRAIN, at_hand.cycle + 1, quiet);
        stall(PIVOT_COUNTER_STALL_NORM, quiet, begin);
        stall(PIVOT_COUNTER_STALL_DRAIN, begin, begin + 1);
        if (d.opcode() == PIVOT_OPCODE_LOAD) {
            side.rows_go.put(begin);
            other_begin = begin;
            stage = LOAD;
            return;
        }
        if (d.opcode() == PIVOT_OPCODE_SOFTMAX) {
            other_begin = begin;
            stage = SOFTMAX;
            return;
        }
        last = begin + d.classes() + k.evaluate_cycles;
        count(PIVOT_COUNTER_GATE_CYCLES) += last - begin;
        if (!ends(d, exits_low)) trace.add(TRACK_GATE, begin + 1, last + 1, at_hand.descriptor);
        gate_done.put({last, at_hand.descriptor, begin});
        account(d);
        free.put(last + 1);
        stage = ends(d, exits_low) ? END : NEXT;
        if (stage == NEXT) fetch.proceed.put(last);
    }

    bool end_load(const Descriptor& d, SideLoader& side) {
        if (side.rows_done.size() < side.rows_go.size()) return false;
        last = side.rows_done.back();
        stall(PIVOT_COUNTER_STALL_LOAD, other_begin + 1, last + 1);
        account(d);
        free.put(last + 1);
        stage = NEXT;
        return true;
    }

    // `SoftmaxIssue`: its tokens, as soon as its table is there.
    bool pass(const Constants& k, const Descriptor& d, SideLoader& side) {
        const Times& credits = side.table_credits[1];
        if (credits.size() <= tables_used[1]) return false;
        const Cycle first = std::max(credits[tables_used[1]++], other_begin + 1);
        stall(PIVOT_COUNTER_STALL_TABLE, other_begin + 1, first);
        const Count tokens = d.softmax().tokens, rest = tokens % k.rows;
        const Count groups = tokens / k.rows * ceil_div(k.rows, k.exp_units) + ceil_div(rest, k.exp_units);
        const Cycle end = first + groups * d.softmax().keys - 1;
        trace.add(TRACK_SOFTMAX, first + 1, end + 2, at_hand.descriptor);
        tables[1].end(end, k.table_delays[1], side.table_room[1]);
        last = end + k.softmax_latency - 1;
        account(d);
        free.put(last + 1);
        stage = NEXT;
        return true;
    }

    // Cycles since the descriptor at hand was taken, to its operation; its waits for a NORM to that one.
    void account(const Descriptor& d) {
        count(PIVOT_COUNTER_OPERATION_NORM) += norm_waits;
        operation(d) += last - at_hand.cycle - norm_waits;
    }

    // Whether the feed looks exps up; where exp units are limited, a SOFTMAX did.
    static bool feeds_exps(const Constants& k, const Descriptor& d) { return d.flags() & PIVOT_FLAG_EXP && !k.exp_units; }
    static Count group_size(const pivot_descriptor_gemm& g) {
        const Count group = std::min(g.resident, g.column_tiles);
        return group ? group : g.column_tiles;
    }
    // `last`: of its group. With one column a KEY tile adds a byte to the rows' words; only full words, and a group's last, are sent.
    static Cycle interval_of(const Constants& k, const Descriptor& d, Count tile, bool last) {
        const bool reciprocal = d.flags() & PIVOT_FLAG_EXP && tile == 0;
        const bool sends = last || !k.gathers || (d.gemm().element + tile) % k.pe_depth == k.pe_depth - 1;
        return k.intervals[4 * d.gemm().post + 2 * reciprocal + sends];
    }

    void begin_gemm(const Descriptor& d) {
        group = row_tile = 0;
        next_cycle = at_hand.cycle + 1;
        norm_waits = 0;
        if (d.gemm().post == PIVOT_POST_RESIDUAL) residual.clear(), has_residual = true;
        tile = -1;
        stage = GEMM;
    }

    // One row tile of a group of column tiles; those that wait for operands tile by tile.
    bool step_gemm(const Constants& k, const Descriptor& d, WeightSide& weights, SideLoader& side) {
        const auto& g = d.gemm();
        const Count k_words = g.k_words, tiles = std::min(group_size(g), g.column_tiles - group);
        const bool streams = !(d.flags() & PIVOT_FLAG_KV), per_column = d.flags() & PIVOT_FLAG_PER_COLUMN;
        const bool release = row_tile == g.row_tiles - 1 || !g.resident; // the column tiles' last use
        if (tile < 0) begin_row_tile(d, k_words);
        if (row_tile == 0 || !g.resident) {
            bool moved = false;
            for (; tile < tiles; ++tile, operand = WEIGHTS, moved = true) {
                const bool first = group == 0 && row_tile == 0 && tile == 0;
                if (tile && operand == WEIGHTS && !gapped) {
                    const Cycle begin = std::max(tile_end + 1, tile_end + interval - k_words + 1);
                    stall(PIVOT_COUNTER_STALL_DRAIN, tile_end + 1, begin);
                    tile_begin = begin;
                    gapped = true;
                }
                if (!operands(k, d, first, streams, per_column, weights, side)) return moved;
                // In the next cycle, but a GEMM of one word is over by then.
                if (first) begun.put(tile_begin + (k_words * g.column_tiles * g.row_tiles > 1));
                end_tile(k, d, tile_begin + k_words - 1, group + tile, tile + 1 == tiles);
                gapped = false;
                if (release) give_back(k, k_words, streams, per_column, weights, side);
            }
        } else {
            const Cycle begin = tile_begin;
            for (tile = 0; tile < tiles; ++tile) {
                const Cycle start = tile ? std::max(tile_end + 1, tile_end + interval - k_words + 1) : begin;
                if (tile) stall(PIVOT_COUNTER_STALL_DRAIN, tile_end + 1, start);
                end_tile(k, d, start + k_words - 1, group + tile, tile + 1 == tiles);
                if (release) give_back(k, k_words, streams, per_column, weights, side);
            }
        }
        next_cycle = tile_end + 1;
        if (g.post == PIVOT_POST_RESIDUAL && group + tiles == g.column_tiles) residual.push_back(tile_end + k.residual_settle);
        tile = -1;
        if (++row_tile == g.row_tiles) {
            row_tile = 0;
            group += tiles;
            if (group == g.column_tiles) end_gemm(k, d, side);
        }
        return true;
    }

    // First cycle in which the row tile at hand could be fed.
    void begin_row_tile(const Descriptor& d, Count k_words) {
        const auto& g = d.gemm();
        const bool first = group == 0 && row_tile == 0;
        Cycle begin = std::max(next_cycle, tile_end + interval - k_words + 1);
        if (first && d.flags() & PIVOT_FLAG_WAIT) begin = std::max(begin, settled);
        stall(PIVOT_COUNTER_STALL_DRAIN, next_cycle, begin);
        Cycle at = begin;
        if (norms_done && d.flags() & PIVOT_FLAG_NORMALIZED && g.post != PIVOT_POST_RESIDUAL && !g.segment_words) {
            if (row_tile >= Count(last_norm.ready.size())) throw std::invalid_argument("GEMM has more row tiles than its NORM");
            at = std::max(begin, last_norm.ready[row_tile]);
        } else if (norms_done && first) {
            at = std::max(begin, last_norm.idle);
        }
        stall(PIVOT_COUNTER_STALL_NORM, begin, at);
        norm_waits += at - begin;
        tile_begin = at;
        tile = 0;
        operand = WEIGHTS;
        gapped = true;
    }

    void end_tile(const Constants& k, const Descriptor& d, Cycle end, Count column_tile, bool last_of_group) {
        tile_end = end;
        interval = interval_of(k, d, column_tile, last_of_group);
        trace.add(TRACK_ARRAY, end + 1 - d.gemm().k_words, end + 1, at_hand.descriptor);
        const Cycle drain = end + 1 + k.drain_latency;
        trace.add(TRACK_LANES, drain, drain + (d.gemm().post == PIVOT_POST_SCORE ? k.cols / k.score_columns : k.cols));
    }

    // Let `tile_begin` wait for the tile's weights and parameters, a GEMM's first tile for its tables, too; false if one is unknown.
    bool operands(const Constants& k, const Descriptor& d, bool first, bool streams, bool per_column, WeightSide& weights, SideLoader& side) {
        const auto wait = [&](Cycle at, int cause) {
            if (at == UNKNOWN) return false;
            if (at > tile_begin) stall(cause, tile_begin, at), tile_begin = at;
            return true;
        };
        const auto credit = [](const Times& credits, Count number) { return credits.size() > number ? credits[number] : UNKNOWN; };
        if (operand == WEIGHTS) {
            if (streams && !wait(weights.tile(tiles_taken), PIVOT_COUNTER_STALL_WEIGHTS)) return false;
            tiles_taken += streams;
            operand = PARAMETERS;
        }
        if (operand == PARAMETERS) {
            if (per_column && !wait(credit(side.parameter_credits, parameter_tiles), PIVOT_COUNTER_STALL_PARAMETERS)) return false;
            parameter_tiles += per_column;
            operand = first ? ACTIVATION_TABLE : READY;
        }
        for (int kind = operand - ACTIVATION_TABLE; operand != READY; ++kind) {
            const bool used = kind ? feeds_exps(k, d) : d.gemm().post == PIVOT_POST_ACTIVATION;
            if (used && !wait(credit(side.table_credits[kind], tables_used[kind]), PIVOT_COUNTER_STALL_TABLE)) return false;
            tables_used[kind] += used;
            operand = Operand(operand + 1);
        }
        return true;
    }

    // Give a column tile back whose last tile has just ended.
    void give_back(const Constants& k, Count k_words, bool streams, bool per_column, WeightSide& weights, SideLoader& side) {
        if (streams) weights.room.put({tile_end + k.weight_release, words_released += k_words});
        if (per_column) side.parameter_room.put(tile_end + k.parameter_release);
    }

    void end_gemm(const Constants& k, const Descriptor& d, SideLoader& side) {
        const auto& g = d.gemm();
        settled = std::max(settled, tile_end + k.settle[g.post]);
        const Count tiles = Count(g.column_tiles) * g.row_tiles, words = tiles * g.k_words;
        count(PIVOT_COUNTER_ARRAY_CYCLES) += words;
        if (d.flags() & PIVOT_FLAG_ATTENTION) count(PIVOT_COUNTER_ATTENTION_ARRAY_CYCLES) += words;
        count(PIVOT_COUNTER_TILES) += tiles;
        if (g.post == PIVOT_POST_ACTIVATION) tables[0].end(tile_end, k.table_delays[0], side.table_room[0]);
        if (feeds_exps(k, d)) tables[1].end(tile_end, k.table_delays[1], side.table_room[1]);
        last = tile_end;
        account(d);
        free.put(last);
        stage = NEXT;
    }

    friend Fingerprint& operator<<(Fingerprint& f, const Taken& t) { return f.exact(t.cycle), f.number(t.descriptor), f.exact(t.available), f; }
    friend Fingerprint& operator<<(Fingerprint& f, const Evaluation& e) { return f.cycle(e.cycle), f.number(e.descriptor), f.cycle(e.begin), f; }

    bool exits_low;
    // Taking
    bool done_taking = false, early = false; // `early`: a NORM may be taken beside the GEMM before it
    Cycle last_taken = -1;
    Count others = 0, gemms = 0, norms = 0; // taken
    Sequence<Taken> taken;
    Times begun; // of each GEMM: cycle from which a NORM may be taken beside it
    Times free;  // of each descriptor but NORMs: cycle from which the next one may be taken
    // Executing
    Stage stage = NEXT;
    Count executed = 0, norms_done = 0;
    Taken at_hand{};
    Cycle last = -1; // last cycle that is accounted for
    Norm last_norm;
    bool has_residual = false;
    std::vector<Cycle> residual; // of the last RESIDUAL GEMM: cycle from which each row tile's sums are complete
    Cycle other_begin = 0, norm_waits = 0; // of a LOAD or SOFTMAX; for a NORM
    // The GEMM at hand
    Count group = 0, row_tile = 0, tile = -1; // first column tile of the group; row tile; column tile of the group, negative: not begun
    Operand operand = WEIGHTS;
    bool gapped = false;                      // `tile_begin` respects the tile before
    Cycle next_cycle = 0, tile_begin = 0;
    // Last decision of a tile, its interval, and when all has settled
    Cycle tile_end = -1, interval = 0, settled = 0;
    Count tiles_taken = 0, parameter_tiles = 0, words_released = 0, tables_used[2] = {0, 0};
};

inline void Issue::describe(Fingerprint& f, const SideLoader& side) const {
    f.number(stage), f.number(done_taking), f.number(early), f.cycle(last_taken);
    f.number(others - free.size()), f.number(gemms - begun.size()), f.number(norms - norms_done);
    f.sequence(taken), f.sequence(begun), f.sequence(free), f.sequence(gate_done);
    f.number(taken.size() - executed), f.exact(last), f.cycle(tile_end), f.number(interval), f.cycle(settled);
    f.number(norms_done > 0), f.cycle(last_norm.idle), f.number(has_residual);
    for (const auto* cycles : {&last_norm.ready, &residual}) {
        f.number(cycles->size());
        for (Cycle cycle : *cycles) f.cycle(cycle);
    }
    f.number(side.parameter_credits.size() - parameter_tiles);
    for (int kind : {0, 1}) {
        f.number(side.table_credits[kind].size() - tables_used[kind]), f.number(tables[kind].owed);
        f.number(tables[kind].due == NEVER);
        if (tables[kind].due != NEVER) f.cycle(tables[kind].due);
    }
    if (stage == NEXT) return;
    f << at_hand, f.number(norm_waits);
    if (stage == LOAD || stage == SOFTMAX) f.exact(other_begin);
    if (stage != GEMM) return;
    f.number(group), f.number(row_tile), f.number(tile);
    if (tile < 0) f.exact(next_cycle);
    if (tile >= 0) f.number(operand), f.number(gapped), f.exact(tile_begin);
}
