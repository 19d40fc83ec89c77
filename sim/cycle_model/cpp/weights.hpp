// The weight side: queue, job expander, ports and the credits of column tiles (hw/weights).
#pragma once

#include <numeric>

#include "side.hpp"

// What the issue has given back: the words since the image's start, and the first cycle in which the ports see them.
struct WeightRoom {
    Cycle cycle;
    Count words;
};

class WeightPort {
public:
    SegmentReader segments;
    Times tiles; // first cycle in which the issue sees each column tile

    explicit WeightPort(const Constants& k)
        : segments(k.axi_bytes / unit(k), k.weight_write_bytes / unit(k), k.weight_write_bytes == k.axi_bytes),
          taken(-k.weight_words) {}

    // Cycle in which a job offered from `cycle` on is taken, or UNKNOWN.
    Cycle take(const Constants& k, Cycle cycle, Count descriptor, const Descriptor& d, Count port) {
        const Count number = jobs.size() - k.queue_depth;
        if (number >= jobs_done.size()) return UNKNOWN;
        if (number >= 0) cycle = std::max(cycle, jobs_done[number] + 1);
        if ((cycle = segments.acceptance(k, cycle)) == UNKNOWN) return UNKNOWN;
        const Count exact = d.gemm().k_words * Count(d.gemm().column_tiles) * k.groups_per_port * k.weight_write_bytes;
        const Count beats = ceil_div(exact, k.axi_bytes), last_bytes = exact - (beats - 1) * k.axi_bytes;
        jobs.put(descriptor);
        segments.enter(cycle, d.gemm().weights + port * beats * k.axi_bytes,
                       {beats, 0, last_bytes / unit(k), k.weight_write_bytes / unit(k), true});
        return cycle;
    }

    bool advance(const Constants& k, const Program& program, const Sequence<WeightRoom>& room) {
        const bool moved = segments.advance(k);
        const bool written = write(k, program, room);
        return moved || written; // words that left let beats leave: the next round pops them
    }

    // A burst has been accepted: find out what follows inside the port; whether the issue or the expander see any of it.
    bool absorb(const Constants& k, const Program& program, const Sequence<WeightRoom>& room) {
        const auto visible = [&] { return tiles.size() + jobs_done.size() + segments.places(); };
        const Count before = visible();
        while (advance(k, program, room)) {}
        return visible() != before;
    }

    void forget(const Constants& k) {
        jobs.forget(next - 1);
        jobs_done.forget(jobs.size() - k.queue_depth);
        segments.forget(k, word);
    }

    Count oldest_room() const { return room_found; }

    void describe(Fingerprint& f, const Sequence<WeightRoom>& room, Count released) const {
        f.sequence(tiles), f.sequence(jobs_done);
        f.number(jobs.size() - next), f.number(jobs.size() - jobs_done.size()), f.number(stage);
        for (Count i = next - (stage != NEXT); i < jobs.size(); ++i) f.number(jobs[i]);
        f.number(room.size() - room_found), f.number(taken - released), f.cycle(fired);
        if (stage != NEXT) f.number(tile), f.number(end - word);
        segments.describe(f, word);
    }

private:
    enum Stage { NEXT, SPACE, WORDS };
    static Count unit(const Constants& k) { return std::gcd(k.weight_write_bytes, k.axi_bytes); }

    bool write(const Constants& k, const Program& program, const Sequence<WeightRoom>& room) {
        for (bool moved = false;; moved = true) {
            if (stage == NEXT) {
                if (jobs.size() <= next) return moved;
                ++next;
                tile = 0;
                begin_tile(k, program);
            } else if (stage == SPACE) {
                if (taken > 0) {
                    while (room_found < room.size() && room[room_found].words < taken) ++room_found;
                    if (room_found == room.size()) return moved;
                    fired = std::max(fired, room[room_found].cycle - 1);
                }
                stage = WORDS;
            } else {
                const Count known = std::min(segments.words_known(), end);
                if (word == known) return moved;
                fired = segments.fire(k, word, known, fired);
                word = known;
                if (word < end) return true;
                tiles.put(fired + 2);
                if (++tile < program[jobs[next - 1]].gemm().column_tiles) {
                    begin_tile(k, program);
                } else {
                    jobs_done.put(fired);
                    stage = NEXT;
                }
            }
        }
    }

    void begin_tile(const Constants& k, const Program& program) {
        const Count k_words = program[jobs[next - 1]].gemm().k_words;
        taken += k_words;
        end = word + k_words * k.groups_per_port;
        stage = SPACE;
    }

    Sequence<Count> jobs; // descriptors
    Times jobs_done;
    Stage stage = NEXT;
    Count next = 0, tile = 0, word = 0, end = 0; // next job; tile of the one at hand; next word, and the tile's end
    Count taken, room_found = 0;                 // words that had to be given back, and the entry that says so
    Cycle fired = -1;
};

class WeightSide {
public:
    Sequence<Count> jobs; // descriptors that entered the queue,
    Times pushes, pops;   // and the cycles in which each enters and leaves it
    Sequence<WeightRoom> room;
    std::vector<WeightPort> ports;

    explicit WeightSide(const Constants& k) : ports(k.weight_ports, WeightPort(k)) {}

    // First cycle in which the issue sees column tile `number` in every port, or UNKNOWN.
    Cycle tile(Count number) const {
        Cycle cycle = 0;
        for (const WeightPort& port : ports) {
            if (port.tiles.size() <= number) return UNKNOWN;
            cycle = std::max(cycle, port.tiles[number]);
        }
        return cycle;
    }

    bool advance(const Constants& k, const Program& program) {
        bool moved = expand(k, program);
        for (WeightPort& port : ports) moved |= port.advance(k, program, room);
        return moved;
    }

    // The same of the burst of one port.
    bool absorb(const Constants& k, const Program& program, Count port) { return ports[port].absorb(k, program, room); }

    void forget(const Constants& k, Count tile) {
        jobs.forget(next);
        pushes.forget(next);
        pops.forget(pushes.size() - k.queue_depth);
        Count oldest = room.size();
        for (WeightPort& port : ports) {
            oldest = std::min(oldest, port.oldest_room());
            port.tiles.forget(tile);
            port.forget(k);
        }
        room.forget(oldest);
    }

    void describe(Fingerprint& f, Count tile, Count released) const {
        f.number(jobs.size() - next);
        for (Count i = next; i < jobs.size(); ++i) f.number(jobs[i]);
        f.sequence(pushes), f.sequence(pops);
        f.number(pushes.size() - pops.size()), f.number(step);
        f.cycle(free);
        if (step) f.cycle(cycle);
        f.number(room.size() - room.begin());
        for (Count i = room.begin(); i < room.size(); ++i) f.cycle(room[i].cycle), f.number(room[i].words - released);
        for (const WeightPort& port : ports) f.number(port.tiles.size() - tile), port.describe(f, room, released);
    }

private:
    // A job goes to every port, as often as it is streamed.
    bool expand(const Constants& k, const Program& program) {
        for (bool moved = false;; moved = true) {
            if (pushes.size() <= next) return moved;
            const Descriptor d = program[jobs[next]];
            if (step == 0) cycle = std::max(free, pushes[next] + 1) + 1;
            const Count steps = k.weight_ports * SideLoader::passes(d);
            const Cycle accepted = ports[step % k.weight_ports].take(k, cycle + 1, jobs[next], d, step % k.weight_ports);
            if (accepted == UNKNOWN) return moved;
            cycle = accepted;
            if (++step == steps) {
                pops.put(cycle);
                free = cycle + 1;
                ++next;
                step = 0;
            }
        }
    }

    Count next = 0, step = 0; // job at the expander; ports that it went to
    Cycle free = 0, cycle = 0;
};
