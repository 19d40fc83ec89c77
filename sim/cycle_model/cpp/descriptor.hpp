// Descriptors as they lie in a Program's memory; pivot.h is generated from hw/isa.py.
#pragma once

#include "pivot.h"
#include "sequence.hpp"

class Descriptor {
public:
    explicit Descriptor(const std::uint8_t* bytes) : bytes(bytes) {}
    int opcode() const { return bytes[0]; }
    int flags() const { return bytes[1]; }
    int encoder() const { return bytes[2]; }
    int operation() const { return bytes[3]; }
    const pivot_descriptor_gemm& gemm() const { return as<pivot_descriptor_gemm>(); }
    const pivot_descriptor_load& load() const { return as<pivot_descriptor_load>(); }
    const pivot_descriptor_norm& norm() const { return as<pivot_descriptor_norm>(); }
    const pivot_descriptor_softmax& softmax() const { return as<pivot_descriptor_softmax>(); }
    Count table() const { return opcode() == PIVOT_OPCODE_SOFTMAX ? softmax().table : gemm().table; }
    Count classes() const { return as<pivot_descriptor_end>().classes; } // END and GATE are alike

private:
    template <class T> const T& as() const { return *reinterpret_cast<const T*>(bytes); }
    const std::uint8_t* bytes;
};

struct Program {
    const std::uint8_t* memory;
    Count descriptors;
    Descriptor operator[](Count i) const { return Descriptor(memory + i * PIVOT_DESCRIPTOR_BYTES); }
};
