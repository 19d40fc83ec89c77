// The side loader: parameters, tables and rows (hw/memory/side_loader.py, segment_planner.py, word_placer.py).
#pragma once

#include "descriptor.hpp"
#include "segments.hpp"
#include "trace.hpp"

struct SideJob {
    Count kind, descriptor; // a JobKind; index of the descriptor
    bool exponential;       // kind of a table
};

inline Fingerprint& operator<<(Fingerprint& f, const SideJob& job) {
    return f.number(job.kind), f.number(job.descriptor), f.number(job.exponential), f;
}

class SideLoader {
public:
    Sequence<SideJob> jobs; // that entered the queue,
    Times pushes, pops;     // and the cycles in which each enters and leaves it
    Times rows_go, rows_done;
    Times parameter_credits, table_credits[2]; // first cycle in which the issue sees each column tile's parameters, each table
    Times parameter_room, table_room[2];       // first cycle in which the placer sees each slot given back
    SegmentReader segments;
    Trace trace;

    explicit SideLoader(const Constants& k)
        : segments(k.axi_bytes, std::max({k.parameter_bytes, k.pe_depth, 2 * k.pe_depth}), false) {}

    bool advance(const Constants& k, const Program& program) {
        bool moved = segments.advance(k);
        moved |= plan(k, program);
        moved |= place(k);
        return moved;
    }

    void forget(const Constants& k) {
        jobs.forget(planned);
        pushes.forget(planned);
        pops.forget(pushes.size() - k.queue_depth);
        rows_go.forget(rows);
        rows_done.forget(rows_done.size() - 1);
        placed.forget(placing);
        taken.forget(planned - k.placements);
        parameter_room.forget(tiles - k.parameter_tiles);
        for (int kind : {0, 1}) table_room[kind].forget(tables[kind] - k.table_slots);
        segments.forget(k, word);
    }

    void describe(Fingerprint& f) const {
        f.number(jobs.size() - planned);
        for (Count i = jobs.begin(); i < jobs.size(); ++i) f << jobs[i];
        for (const Times* times : {&pushes, &pops, &rows_go, &rows_done, &parameter_room, &table_room[0], &table_room[1], &taken})
            f.sequence(*times);
        for (const Times* times : {&parameter_credits, &table_credits[0], &table_credits[1]}) f.sequence(*times);
        f.sequence(placed);
        f.number(pushes.size() - pops.size()), f.number(pushes.size() - planned), f.number(rows_go.size() - rows);
        f.number(rows_go.size() - rows_done.size());
        f.number(tiles - parameter_credits.size()), f.number(tiles - parameter_room.size());
        for (int kind : {0, 1}) f.number(tables[kind] - table_credits[kind].size()), f.number(tables[kind] - table_room[kind].size());
        f.number(planned - placing), f.number(planned - taken.size());
        f.number(stage), f.cycle(free), f.number(stage == IDLE ? 0 : segment);
        if (stage != IDLE) f.cycle(cycle), f << job;
        f.number(act), f.cycle(fired);
        if (act != NEXT) f << at_hand, f.cycle(earliest), f.number(words - word), f.number(start - word);
        segments.describe(f, word);
    }

    // How often the weights and parameters of a GEMM are streamed.
    static Count passes(const Descriptor& d) { return d.gemm().resident ? 1 : d.gemm().row_tiles; }

private:
    struct Placement {
        Cycle cycle;
        SideJob job;
        Count words;
    };
    enum Stage { IDLE, ROOM, SEGMENTS };
    enum Act { NEXT, GO, CHUNK, FIRE };

    friend Fingerprint& operator<<(Fingerprint& f, const Placement& p) { return f.cycle(p.cycle), f << p.job, f.number(p.words), f; }

    static Count word_size(const Constants& k, const SideJob& job, const Descriptor& d) {
        if (job.kind == k.job_parameters) return k.parameter_bytes;
        if (job.kind == k.job_table) return 1;
        return d.load().target == PIVOT_TARGET_RESIDUAL ? 2 * k.pe_depth : k.pe_depth;
    }

    static Count job_words(const Constants& k, const SideJob& job, const Descriptor& d) {
        if (job.kind == k.job_parameters) return d.gemm().column_tiles * k.cols * passes(d);
        if (job.kind == k.job_table) return k.table_entries;
        const auto& load = d.load();
        return Count(load.tokens_outer) * load.tokens_inner * ceil_div(Count(load.segments) * load.segment_bytes, word_size(k, job, d));
    }

    static Count segment_count(const Constants& k, const SideJob& job, const Descriptor& d) {
        if (job.kind == k.job_parameters) return passes(d);
        if (job.kind == k.job_table) return 1;
        const auto& load = d.load();
        return Count(load.tokens_outer) * load.segments * (d.flags() & PIVOT_FLAG_CONTIGUOUS ? 1 : Count(load.tokens_inner));
    }

    // Segment `number` of a job; its address counts from the Program or the image, which begin on a burst boundary.
    static std::pair<Count, Segment> make_segment(const Constants& k, const SideJob& job, const Descriptor& d, Count number) {
        Count address = 0, size = 0;
        bool last = true;
        if (job.kind == k.job_parameters) {
            address = d.gemm().parameters, size = d.gemm().column_tiles * k.cols * k.parameter_bytes;
        } else if (job.kind == k.job_table) {
            address = d.table(), size = k.table_entries;
        } else {
            const auto& load = d.load();
            const Count index = number % load.segments, token = number / load.segments;
            address = load.address + index * Count(load.segment_stride);
            if (d.flags() & PIVOT_FLAG_CONTIGUOUS) {
                address += token * Count(load.outer_stride);
                size = Count(load.tokens_inner) * load.segment_bytes;
                last = number == segment_count(k, job, d) - 1;
            } else {
                address += token / load.tokens_inner * Count(load.outer_stride) + token % load.tokens_inner * Count(load.inner_stride);
                size = load.segment_bytes;
                last = index == load.segments - 1;
            }
        }
        const Count first = address % k.axi_bytes;
        const Count beats = ceil_div(first + size, k.axi_bytes);
        return {address, {beats, first, (first + size - 1) % k.axi_bytes + 1, word_size(k, job, d), last}};
    }

    bool plan(const Constants& k, const Program& program) {
        for (bool moved = false;; moved = true) {
            const Descriptor d = program[job.descriptor];
            if (stage == IDLE) {
                if (pushes.size() <= planned) return moved;
                job = jobs[planned];
                cycle = std::max(free, pushes[planned] + 1) + 1;
                stage = ROOM;
            } else if (stage == ROOM) {
                if (planned >= k.placements) {
                    if (taken.size() <= planned - k.placements) return moved;
                    cycle = std::max(cycle, taken[planned - k.placements] + 1);
                }
                placed.put({cycle, job, job_words(k, job, d)});
                segment = 0;
                stage = SEGMENTS;
            } else {
                const Cycle accepted = segments.acceptance(k, cycle + 2);
                if (accepted == UNKNOWN) return moved;
                cycle = accepted;
                const auto [address, made] = make_segment(k, job, d, segment);
                segments.enter(cycle, address, made);
                if (++segment == segment_count(k, job, d)) {
                    pops.put(cycle);
                    free = cycle + 1;
                    ++planned;
                    stage = IDLE;
                }
            }
        }
    }

    bool place(const Constants& k) {
        for (bool moved = false;; moved = true) {
            if (act == NEXT) {
                if (placed.size() <= placing) return moved;
                const Placement& p = placed[placing++];
                at_hand = p.job, words = word + p.words, start = word;
                earliest = std::max(p.cycle, fired) + 2;
                act = GO;
            } else if (act == GO) {
                if (at_hand.kind == k.job_rows) {
                    if (rows_go.size() <= rows) return moved;
                    earliest = std::max(earliest, rows_go[rows++] + 2);
                }
                act = CHUNK;
            } else if (act == CHUNK) {
                if (segments.words_known() <= start) return moved;
                const Times* room = nullptr;
                Count number = 0;
                if (at_hand.kind == k.job_parameters) room = &parameter_room, number = tiles - k.parameter_tiles;
                if (at_hand.kind == k.job_table) room = &table_room[at_hand.exponential], number = tables[at_hand.exponential] - k.table_slots;
                if (room && number >= 0) {
                    if (room->size() <= number) return moved;
                    earliest = std::max(earliest, (*room)[number]);
                }
                tiles += at_hand.kind == k.job_parameters;
                if (at_hand.kind == k.job_table) ++tables[at_hand.exponential];
                fired = std::max(fired, earliest - 1);
                start += at_hand.kind == k.job_parameters ? k.cols : words - start; // the chunk's end
                act = FIRE;
            } else {
                const Count known = std::min(segments.words_known(), start);
                if (word == known) return moved;
                fired = segments.fire(k, word, known, fired);
                word = known;
                if (word < start) return true;
                if (at_hand.kind == k.job_parameters) {
                    parameter_credits.put(fired + 2);
                    trace.add(TRACK_SIDE, fired + 1, fired + 2, -1, at_hand.kind);
                }
                act = CHUNK;
                if (word == words) finish(k), act = NEXT;
            }
        }
    }

    void finish(const Constants& k) {
        taken.put(fired);
        if (at_hand.kind == k.job_table) {
            table_credits[at_hand.exponential].put(fired + 2);
            trace.add(TRACK_SIDE, fired + 1, fired + 2, -1, at_hand.kind);
        }
        if (at_hand.kind == k.job_rows) rows_done.put(fired + k.rows + k.rows_margin + 1);
    }

    Stage stage = IDLE; // of the planner
    Cycle free = 0, cycle = 0;
    SideJob job{};
    Count planned = 0, segment = 0;
    Sequence<Placement> placed;
    Times taken; // of each placement: its last word
    Act act = NEXT; // of the placer
    SideJob at_hand{};
    Cycle earliest = 0, fired = -1;
    Count placing = 0, word = 0, words = 0, start = 0; // next placement; next word, the job's end and the chunk's
    Count tiles = 0, rows = 0, tables[2] = {0, 0};     // begun
};
