// Products on tensor cores (compute capability 8.0 and later), as exact as float32's: "3xTF32". A tensor core takes 11 of
// a number's 24 bits; so each number is the sum of two parts, and a product of two numbers that of three pairs of parts.
// What is left out is below 2^-22 of it. See the PTX ISA, "mma.m16n8k8", and NVIDIA's CUTLASS, example 27.
#pragma once
#include "common.cuh"

#ifndef EMULATION

// sum (16, 8) += a (16, 8) b (8, 8), spread over the warp: with g = lane / 4 and t = lane % 4, a lane has of
//   sum  (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)
//   a    (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4)
//   b    (t, g), (t + 4, g)
__device__ inline void add_tile(float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#else

#define add_tile(sum, a, b) emulation::add_tile(sum, a, b, __LINE__)

#endif

// N of a lane's numbers of a tile; NaN is in the low part too.
template <int N> struct Parts {
    unsigned high[N], low[N];

    __device__ inline void set(int i, float x) {
        high[i] = (__float_as_uint(x) + 0x1000u) & 0xffffe000u; // rounded to what a tensor core takes
        low[i] = __float_as_uint(x - __uint_as_float(high[i]));
    }
};

// A sum of products of tiles; the small products are added up by themselves.
struct TileSum {
    float large[4] = {}, small[4] = {};

    __device__ inline void add(const Parts<4>& a, const Parts<2>& b) {
        add_tile(small, a.low, b.high);
        add_tile(large, a.high, b.high);
        add_tile(small, a.high, b.low);
    }

    __device__ inline float operator[](int i) const { return large[i] + small[i]; }
};
