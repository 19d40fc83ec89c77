// Beats into words (hw/memory/segment_reader.py, gearbox.py).
#pragma once

#include "memory.hpp"

// A segment of memory, lengths in units of the gearbox.
struct Segment {
    Count beats; // that cover it
    Count first; // units of its first beat that come before it
    Count end;   // units of its last beat up to its end
    Count word;  // units of a word
    bool last;   // it ends a run: the last word is filled up
};

inline Fingerprint& operator<<(Fingerprint& f, const Segment& s) {
    for (Count value : {s.beats, s.first, s.end, s.word, Count(s.last)}) f.number(value);
    return f;
}

// Burst reader and gearbox. Who takes the words puts the cycles in which they leave into `fires`.
struct SegmentReader {
    BurstReader reader;
    Times fires; // of each word; where beats are words, two registers before the first one count as words that have left

    SegmentReader(Count beat_units, Count most, bool words_are_beats)
        : beat_units(beat_units), most(most), words_are_beats(words_are_beats) {
        if (words_are_beats) fires.put(-1), fires.put(-1);
    }

    // Words of which the cycle is known from which they stand at the output, if those before them have left.
    Count words_known() const { return words_are_beats ? reader.arrivals.size() : available.size(); }
    // Let the words from `word` to before `end` leave, each as soon as it may, behind the cycle `fired`; the last one's cycle.
    Cycle fire(const Constants& k, Count word, Count end, Cycle fired) {
        const Cycle delay = words_are_beats ? BurstReader::latency(k) + 2 : 0;
        const Cycle* there = &(words_are_beats ? reader.arrivals : available)[word];
        Cycle* fire = fires.extend(end - word);
        for (Count i = 0; i < end - word; ++i) fire[i] = fired = std::max(there[i] + delay, fired + 1);
        return fired;
    }

    // Cycle in which a segment offered from `cycle` on is accepted, or UNKNOWN.
    Cycle acceptance(const Constants& k, Cycle cycle) const {
        const Count number = reader.commands.size(), room = 2 * k.outstanding + 2;
        if (reader.final_issue.size() < number) return UNKNOWN;
        if (number) cycle = std::max(cycle, reader.final_issue[number - 1]);
        if (number >= room) {
            if (left.size() <= number - room) return UNKNOWN;
            cycle = std::max(cycle, left[number - room] + 1);
        }
        return cycle;
    }

    // Grows whenever `acceptance` may tell more.
    Count places() const { return reader.final_issue.size() + left.size(); }

    void enter(Cycle cycle, Count address, const Segment& segment) {
        segments.put(segment);
        reader.commands.put({cycle, address, segment.beats});
    }

    bool advance(const Constants& k) {
        const bool popped_some = words_are_beats ? pop_words(k) : fill(k);
        return reader.advance(k) || popped_some;
    }

    // `next`: the word that who takes them asks for next.
    void forget(const Constants& k, Count next) {
        segments.forget(number);
        left.forget(reader.commands.size() - (2 * k.outstanding + 2));
        if (words_are_beats) {
            reader.arrivals.forget(std::min(next, reader.pops.size()));
            fires.forget(reader.pops.size());
        } else {
            reader.arrivals.forget(beat);
            available.forget(next);
            fires.forget(needed() - 1);
        }
        reader.pops.forget(reader.oldest_pop(k));
        reader.forget(k);
    }

    void describe(Fingerprint& f, Count next) const {
        reader.describe(f);
        for (const Times* times : {&fires, &available, &left}) f.sequence(*times);
        f.sequence(segments);
        f.number(reader.commands.size() - left.size()), f.number(words_known() - next), f.number(fires.size() - next);
        f.number(open);
        if (open) f << segment, f.number(index), f.number(popped_beat);
        f.number(reader.arrivals.size() - beat);
        if (words_are_beats) return;
        f.number(units), f.number(words), f.number(fires.size() - earlier_words), f.cycle(popped), f.cycle(taken);
    }

private:
    // Two registers follow the FIFO, so a beat waits for the word two before it to leave.
    bool pop_words(const Constants& k) {
        const Count known = std::min(reader.arrivals.size(), fires.size());
        bool moved = false;
        for (const Cycle latency = BurstReader::latency(k); beat < known; moved = true) {
            if (!open) segment = segments[number++], index = 0, open = true;
            const Count beats = std::min(segment.beats - index, known - beat);
            const Cycle *arrival = &reader.arrivals[beat], *fire = &fires[beat];
            Cycle* pop = reader.pops.extend(beats);
            for (Count i = 0; i < beats; ++i) pop[i] = std::max(arrival[i] + latency, fire[i]);
            index += beats, beat += beats, popped = pop[beats - 1];
            if (index == segment.beats) left.put(popped), open = false;
        }
        return moved;
    }

    // Words that must have left before the beat at hand is taken into the buffer.
    Count needed() const { return earlier_words + (units >= most ? (units - most) / segment.word + 1 : 0); }

    bool fill(const Constants& k) {
        bool moved = false;
        for (;;) {
            if (!open) {
                if (segments.size() <= number) return moved;
                segment = segments[number++];
                open = moved = true;
                index = 0;
            }
            for (; index < segment.beats; ++index) {
                if (!popped_beat) {
                    if (reader.arrivals.size() <= beat) return moved;
                    popped = std::max({reader.arrivals[beat++] + BurstReader::latency(k), popped + 1, taken});
                    reader.pops.put(popped);
                    popped_beat = moved = true;
                }
                const Count leave = needed();
                if (fires.size() < leave) return moved;
                taken = std::max(popped + 1, leave ? fires[leave - 1] : 0);
                const bool final = index == segment.beats - 1;
                units += (final ? segment.end : beat_units) - (index ? 0 : segment.first);
                const Count complete = final && segment.last ? ceil_div(units, segment.word) : units / segment.word;
                for (; words < complete; ++words) available.put(taken + 1);
                popped_beat = false;
            }
            left.put(popped);
            open = false;
            if (segment.last) earlier_words += words, units = words = 0;
        }
    }

    Count beat_units, most; // units of a beat, and of the longest word
    bool words_are_beats;   // every beat is a word: nothing is rearranged
    Sequence<Segment> segments;
    Times available;
    Times left; // of each segment: its last beat leaves the FIFO
    Segment segment{};                       // at work
    bool open = false, popped_beat = false;  // there is one; its beat has left the FIFO
    Count number = 0, index = 0, beat = 0;   // next segment; beat of the segment, and of all
    Count units = 0, words = 0;              // of the run: taken into the buffer, and complete
    Count earlier_words = 0;                 // of earlier runs
    Cycle popped = -1, taken = -1;
};
