// What Python calls (sim/cycle_model/native.py). Every function answers 0, or leaves a message and answers 1.
#include <cstdio>
#include <map>

#include "machine.hpp"

namespace {

template <class Work> int guarded(char* message, std::size_t size, Work work) {
    try {
        work();
        return 0;
    } catch (const std::exception& error) {
        std::snprintf(message, size, "%s", error.what());
        return 1;
    }
}

void add(Counters& sum, const Counters& more) {
    for (int i = 0; i < COUNTERS; ++i) sum[i] += more[i];
}

Counters difference(const Counters& later, const Counters& earlier) {
    Counters result;
    for (int i = 0; i < COUNTERS; ++i) result[i] = later[i] - earlier[i];
    return result;
}

// Every mask: one machine for all masks that lead to the same state before an encoder's fate is decided.
Count every_mask(const Constants& k, const Program& program, const std::vector<Count>& seams, Counters* totals) {
    std::vector<Machine> states{Machine(k, program, 0, 0, false)};
    states[0].run_to(seams[0]);
    std::vector<Count> state_of{0}; // by the bits of the encoders before
    totals[0] = states[0].counters();
    Count visited = 1;
    for (Count encoder = 0; encoder < Count(seams.size()); ++encoder) {
        const bool last = encoder + 1 == Count(seams.size());
        std::map<std::vector<std::int64_t>, Count> known;
        std::vector<Machine> following;
        std::vector<std::array<Count, 2>> to(states.size());
        std::vector<std::array<Counters, 2>> costs(states.size());
        for (Count state = 0; state < Count(states.size()); ++state) {
            const Counters before = states[state].counters();
            for (int kept : {0, 1}) {
                Machine machine = states[state];
                machine.keep(encoder, kept);
                if (last) machine.run();
                else machine.run_to(seams[encoder + 1]);
                costs[state][kept] = difference(machine.counters(), before);
                if (last) continue;
                const auto [found, added] = known.try_emplace(machine.fingerprint(), Count(following.size()));
                to[state][kept] = found->second;
                if (added) following.push_back(std::move(machine));
            }
        }
        const Count prefixes = Count(1) << encoder;
        std::vector<Count> next_state(2 * prefixes);
        for (Count prefix = 0; prefix < prefixes; ++prefix) {
            const Count state = state_of[prefix];
            totals[prefix | prefixes] = totals[prefix];
            for (int kept : {0, 1}) {
                add(totals[prefix | (kept ? prefixes : 0)], costs[state][kept]);
                next_state[prefix | (kept ? prefixes : 0)] = to[state][kept];
            }
        }
        state_of.swap(next_state);
        states.swap(following);
        visited += states.size();
    }
    return visited;
}

} // namespace

extern "C" {

// Counters of one image.
int pivot_walk(const Constants* k, const std::uint8_t* memory, Count descriptors, Count low_mask, Count high_mask, int exits_low,
               std::int64_t* counters, char* message, std::size_t message_size) {
    return guarded(message, message_size, [&] {
        Machine machine(*k, Program{memory, descriptors}, low_mask, high_mask, exits_low);
        machine.run();
        const Counters result = machine.counters();
        std::copy(result.begin(), result.end(), counters);
    });
}

// What happens in one image: `count` spans, to be given back to `pivot_forget_trace`.
int pivot_trace(const Constants* k, const std::uint8_t* memory, Count descriptors, Count low_mask, Count high_mask, int exits_low,
                Span** spans, Count* count, char* message, std::size_t message_size) {
    return guarded(message, message_size, [&] {
        std::vector<Span> kept;
        Machine machine(*k, Program{memory, descriptors}, low_mask, high_mask, exits_low);
        machine.watch(kept);
        machine.run();
        *count = kept.size();
        *spans = new Span[kept.size()];
        std::copy(kept.begin(), kept.end(), *spans);
    });
}

void pivot_forget_trace(Span* spans) { delete[] spans; }

// Counters of one image for every mask of a Program of one network: int64 [2^encoders][counters]; `states` that were told apart.
int pivot_every_mask(const Constants* k, const std::uint8_t* memory, Count descriptors, Count encoders, const Count* seams,
                     std::int64_t* counters, Count* states, char* message, std::size_t message_size) {
    return guarded(message, message_size, [&] {
        *states = every_mask(*k, Program{memory, descriptors}, std::vector<Count>(seams, seams + encoders),
                             reinterpret_cast<Counters*>(counters));
    });
}
}
