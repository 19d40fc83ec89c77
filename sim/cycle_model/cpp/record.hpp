// The result record on its way to memory (hw/memory/result_writer.py).
#pragma once

#include "memory.hpp"
#include "pivot.h"
#include "trace.hpp"

class RecordWriter {
public:
    Cycle write = NEVER;  // cycle of the next write beat
    Cycle done = UNKNOWN; // of the record's end
    Count beats = 0;      // written
    Trace trace;

    // `record_start` is in cycle `start`.
    void begin(const Constants& k, Cycle start, Count classes) {
        left = ceil_div(sizeof(pivot_record) + 4 * classes, k.axi_bytes);
        began = start;
        cycle = start + 1;
        begin_burst(k);
    }

    // The write beat that is due goes to the memory.
    void accept(const Constants& k, Bus& bus) {
        const Cycle response = bus.write(k, write);
        ++beats;
        if (--burst) {
            next_beat(k);
            return;
        }
        responses.push_back(std::max(response, responses.empty() ? 0 : responses.back() + 1));
        ++cycle;
        write = NEVER;
        if (left) {
            begin_burst(k);
        } else {
            done = std::max(cycle, responses.back() + 1);
            trace.add(TRACK_RECORD, began, done + 1);
        }
    }

private:
    void begin_burst(const Constants& k) {
        const Count bursts = responses.size(), boundary = k.burst_boundary / k.axi_bytes;
        if (bursts >= k.memory_outstanding) cycle = std::max(cycle, responses[bursts - k.memory_outstanding] + 1);
        burst = std::min({k.burst_beats, left, boundary - beat % boundary});
        beat += burst, left -= burst;
        next_beat(k);
    }
    void next_beat(const Constants& k) { write = cycle += 1 + k.axi_bytes / 4; }

    Cycle began = 0, cycle = 0;
    Count left = 0, burst = 0, beat = 0; // beats after this burst, of it, before its end
    std::vector<Cycle> responses;
};
