// Sequences of event times, and what of them a state of the machine consists of.
#pragma once

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <vector>

using Cycle = std::int64_t;
using Count = std::int64_t;

constexpr Cycle NEVER = Cycle(1) << 62;
constexpr Cycle UNKNOWN = -NEVER;

// A state of the machine as numbers: equal for two states after which the same happens, however late. Cycles count from
// `origin`; those before `oldest` only ever lose a maximum against something that is unknown yet, which comes later.
class Fingerprint {
public:
    Fingerprint(Cycle origin, Cycle oldest) : origin(origin), oldest(oldest) {}
    void number(std::int64_t value) { numbers.push_back(value); }
    void cycle(Cycle value) { numbers.push_back(std::max(value, oldest) - origin); }
    void exact(Cycle value) { numbers.push_back(value - origin); } // of which a difference is taken
    template <class T> void sequence(const T& items) {
        number(items.size() - items.begin());
        for (Count i = items.begin(); i < items.size(); ++i) *this << items[i];
    }
    const Cycle origin, oldest;
    std::vector<std::int64_t> numbers;
};

inline Fingerprint& operator<<(Fingerprint& f, Cycle value) { return f.cycle(value), f; }

// The events of one kind, in order: numbered from 0, known up to `size`, remembered from `begin`, one behind the other in memory.
template <class T> class Sequence {
public:
    Count begin() const { return first; }
    Count size() const { return end; }
    const T& operator[](Count i) const {
        assert(first <= i && i < end);
        return items[i - origin];
    }
    T& operator[](Count i) {
        assert(first <= i && i < end);
        return items[i - origin];
    }
    const T& back() const { return (*this)[end - 1]; }
    void put(const T& item) { *extend(1) = item; }
    // Room for `count` further events, which the caller fills.
    T* extend(Count count) {
        if (end + count - origin > Count(items.size())) make_room(count);
        T* place = items.data() + (end - origin);
        end += count;
        return place;
    }
    // Events before `from` will not be asked for again.
    void forget(Count from) { first = std::max(first, std::min(from, end)); }

private:
    [[gnu::noinline]] void make_room(Count count) { // so that `extend` is small enough to be inlined
        std::copy(items.begin() + (first - origin), items.begin() + (end - origin), items.begin());
        origin = first;
        // At least half of it stays free, so that moving costs each event little.
        if (const Count need = 2 * (end - origin + count); need > Count(items.size())) items.resize(2 * need);
    }
    std::vector<T> items = std::vector<T>(64);
    Count origin = 0, first = 0, end = 0; // number of the first place; remembered and known events
};

using Times = Sequence<Cycle>;

inline Count ceil_div(Count dividend, Count divisor) { return (dividend + divisor - 1) / divisor; }
