// What happened when, for timelines (sim/timeline/spans.py tells the tracks).
#pragma once

#include "sequence.hpp"

enum Track { TRACK_FETCH, TRACK_STALL, TRACK_ARRAY, TRACK_LANES, TRACK_NORM, TRACK_SOFTMAX, TRACK_SIDE, TRACK_GATE, TRACK_RECORD, TRACK_PORT };

struct Span {
    Count track, name, descriptor; // descriptor: negative where the unit does not know it
    Cycle begin, end;              // first cycle, and the one after the last
};

class Trace {
public:
    std::vector<Span>* spans = nullptr; // nobody looks: nothing is kept
    void add(Count track, Cycle begin, Cycle end, Count descriptor = -1, Count name = 0) const {
        if (spans && begin < end) spans->push_back({track, name, descriptor, begin, end});
    }
};
