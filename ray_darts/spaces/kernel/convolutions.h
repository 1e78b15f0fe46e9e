// Depthwise and pointwise convolutions of one sample, and their gradients.
#pragma once

#include "maps.h"

// What a depthwise convolution of [H, W] maps is; `reach`: the border that it reads.
struct Depthwise {
    long size, stride, dilation;
    long reach() const { return dilation * (size / 2); }
};

// B pixels of a row; each pixel that is read meets all of its taps at once.
template <typename T, int K, int S, int D, int B>
inline void tile(const T* from, long row, const T* taps, T* to, long pixel, bool add) {
    constexpr int kRead = (B - 1) * S + (K - 1) * D + 1;
    Lanes<T> sums[B] = {};
    for (int i = 0; i < K; ++i) {
        Lanes<T> own[K];
        for (int j = 0; j < K; ++j) own[j] = at(taps + (i * K + j) * lanes<T>);
        const T* start = from + i * D * row;
        repeat<kRead>([&](auto p) {
            const Lanes<T> x = at(start + p * lanes<T>);
            repeat<K>([&](auto j) {
                constexpr int before = p - j * D;  // of the pixel from which tap j sees this one
                if constexpr (before >= 0 && before % S == 0 && before / S < B) accumulate(sums[before / S], own[j], x);
            });
        });
    }
    if (add)
        for (int b = 0; b < B; ++b) at(to + b * pixel) += sums[b];
    else
        for (int b = 0; b < B; ++b) at(to + b * pixel) = sums[b];
}

template <typename T, int K, int S, int D>
void convolve(Grid<T> frame, const T* taps, Grid<T> to, long first, long stop, long width, bool add) {
    constexpr long kReach = D * (K / 2);
    for (long h = first; h < stop; ++h) {
        const T* from = frame.at(h * S - kReach, -kReach, 0);
        long w = 0;
        const auto tiles = [&](auto size) {
            for (; w + size <= width; w += size)
                tile<T, K, S, D, size>(from + w * S * lanes<T>, frame.row, taps, to.at(h, w, 0), to.pixel, add);
        };
        tiles(number<2 * kRows<T>>);
        tiles(number<kRows<T>>);
        tiles(number<1>);
    }
}

// The input gradient at stride 2 of pixels of one parity: to += those taps that meet a pixel of the gradient.
template <typename T, int K, int B>
inline void spread_tile(Grid<T> frame, const T* taps, T* to, long pixel, long h, long w, long dilation) {
    const long reach = dilation * (K / 2);
    Lanes<T> sums[B] = {};
    for (int i = 0; i < K; ++i) {
        const long y = h + reach - i * dilation;
        if (y % 2) continue;
        for (int j = 0; j < K; ++j) {
            const long x = w + reach - j * dilation;
            if (x % 2) continue;
            const T* from = frame.at(y / 2, x / 2, 0);
            const Lanes<T> tap = at(taps + (i * K + j) * lanes<T>);
            for (int b = 0; b < B; ++b) accumulate(sums[b], tap, at(from + b * lanes<T>));
        }
    }
    for (int b = 0; b < B; ++b) at(to + 2 * b * pixel) += sums[b];
}

template <typename T, int K>
void spread(Grid<T> frame, const T* taps, Grid<T> to, long height, long width, long dilation) {
    for (long h = 0; h < height; ++h)
        for (long parity = 0; parity < 2; ++parity) {
            long w = parity;
            for (; w + 2 * (kRows<T> - 1) < width; w += 2 * kRows<T>)
                spread_tile<T, K, kRows<T>>(frame, taps, to.at(h, w, 0), to.pixel, h, w, dilation);
            for (; w < width; w += 2) spread_tile<T, K, 1>(frame, taps, to.at(h, w, 0), to.pixel, h, w, dilation);
        }
}

// taps[K K] += the gradient of one vector's kernel from one sample; gradient [height, width].
template <typename T, int K, int S, int D>
void tap_gradient(Grid<T> frame, Grid<T> gradient, T* taps, long height, long width) {
    constexpr long kReach = D * (K / 2);
    constexpr int B = 4, kRead = (B - 1) * S + (K - 1) * D + 1;  // pixels at a time, and those that they meet
    for_each_strip(height, width, [&](long first, long stop) {
        for (int i = 0; i < K; ++i) {
            Lanes<T> even[K] = {}, odd[K] = {};
            for (long h = first; h < stop; ++h) {
                const T* row = frame.at(h * S - kReach + i * D, -kReach, 0);
                const T* gs = gradient.at(h, 0, 0);
                long w = 0;
                for (; w + B <= width; w += B) {
                    Lanes<T> read[kRead];
                    for (int k = 0; k < kRead; ++k) read[k] = at(row + (w * S + k) * lanes<T>);
                    for (int b = 0; b < B; ++b) {
                        const Lanes<T> g = at(gs + (w + b) * lanes<T>);
                        for (int j = 0; j < K; ++j) accumulate((b % 2 ? odd : even)[j], g, read[b * S + j * D]);
                    }
                }
                for (; w < width; ++w)
                    for (int j = 0; j < K; ++j)
                        accumulate(even[j], at(gs + w * lanes<T>), at(row + (w * S + j * D) * lanes<T>));
            }
            for (int j = 0; j < K; ++j) at(taps + (i * K + j) * lanes<T>) += even[j] + odd[j];
        }
    });
}

template <typename T, int K, int S>
void convolve(const Depthwise& d, Grid<T> frame, const T* taps, Grid<T> to, long first, long stop, long width, bool add) {
    (d.dilation == 1 ? convolve<T, K, S, 1> : convolve<T, K, S, 2>)(frame, taps, to, first, stop, width, add);
}

// Convolve the rows [first, stop) of one block of framed maps: to = or += the result.
template <typename T>
void convolve(const Depthwise& d, Grid<T> frame, const T* taps, Grid<T> to, long first, long stop, long width,
              bool add = false) {
    if (d.stride == 1)
        (d.size == 3 ? convolve<T, 3, 1> : convolve<T, 5, 1>)(d, frame, taps, to, first, stop, width, add);
    else
        (d.size == 3 ? convolve<T, 3, 2> : convolve<T, 5, 2>)(d, frame, taps, to, first, stop, width, add);
}

// to [height, width] = or += the input gradient; `frame`: of the gradient; `taps`, `turned`: the kernel and turned by 180 degrees.
template <typename T>
void convolve_back(const Depthwise& d, Grid<T> frame, const T* taps, const T* turned, Grid<T> to,
                   long height, long width, bool add) {
    if (d.stride == 1)
        convolve(d, frame, turned, to, 0, height, width, add);
    else
        (d.size == 3 ? spread<T, 3> : spread<T, 5>)(frame, taps, to, height, width, d.dilation);
}

template <typename T, int K, int S>
void tap_gradient(const Depthwise& d, Grid<T> frame, Grid<T> gradient, T* taps, long height, long width) {
    (d.dilation == 1 ? tap_gradient<T, K, S, 1> : tap_gradient<T, K, S, 2>)(frame, gradient, taps, height, width);
}

template <typename T>
void tap_gradient(const Depthwise& d, Grid<T> frame, Grid<T> gradient, T* taps, long height, long width) {
    if (d.stride == 1)
        (d.size == 3 ? tap_gradient<T, 3, 1> : tap_gradient<T, 5, 1>)(d, frame, gradient, taps, height, width);
    else
        (d.size == 3 ? tap_gradient<T, 3, 2> : tap_gradient<T, 5, 2>)(d, frame, gradient, taps, height, width);
}

// [C / lanes, K K] vectors from a kernel [C, K, K], rotated by 180 degrees if asked
template <typename T>
void gather_taps(const T* kernel, T* taps, long size, long channels, bool turned) {
    const long count = size * size;
    for (long c = 0; c < channels; ++c)
        for (long k = 0; k < count; ++k)
            put(taps, (c / lanes<T> * count + k) * lanes<T> + c % lanes<T>,
                get(kernel, c * count + (turned ? count - 1 - k : k)));
}

template <typename T>
void scatter_taps(const T* taps, T* kernel, long size, long channels) {
    const long count = size * size;
    for (long c = 0; c < channels; ++c)
        for (long k = 0; k < count; ++k)
            put(kernel, c * count + k, get(taps, (c / lanes<T> * count + k) * lanes<T> + c % lanes<T>));
}

template <typename T>
void transpose(const T* from, T* to, long rows, long columns) {
    for (long r = 0; r < rows; ++r)
        for (long c = 0; c < columns; ++c) put(to, c * rows + r, get(from, r * columns + c));
}

// B pixels times V vectors of a table's columns.
template <typename T, int B, int V>
inline void product_tile(const T* x, long block, const T* table, T* y, const Grid<T>& to, long inputs, long outputs) {
    Lanes<T> sums[V][B] = {};
    for (long k = 0; k < inputs; k += lanes<T>, x += block)
        for (long l = 0; l < lanes<T>; ++l, table += outputs)
            for (int v = 0; v < V; ++v) {
                const Lanes<T> row = at(table + v * lanes<T>);
                for (int b = 0; b < B; ++b) accumulate(sums[v][b], lane(x + b * lanes<T>, l), row);
            }
    for (int v = 0; v < V; ++v)
        for (int b = 0; b < B; ++b) at(y + v * to.block + b * to.pixel) = sums[v][b];
}

// Rows [first, stop) of `to` = those of `from` times the table [inputs, outputs]; `from`: planes.
template <typename T>
void product(Grid<T> from, const T* table, Grid<T> to, long first, long stop, long width, long inputs, long outputs) {
    const auto tiles = [&](auto tile, long pixels, long h, long w, long c) {
        for (; w + pixels <= width; w += pixels)
            tile(from.at(h, w, 0), from.block, table + c, to.at(h, w, c / lanes<T>), to, inputs, outputs);
        return w;
    };
    for (long h = first; h < stop; ++h)
        for (long c = 0; c < outputs;) {
            const bool pair = c + 2 * lanes<T> <= outputs;
            long w = 0;
            w = pair ? tiles(product_tile<T, kRows<T>, 2>, kRows<T>, h, w, c)
                     : tiles(product_tile<T, 2 * kRows<T>, 1>, 2 * kRows<T>, h, w, c);
            if (!pair) w = tiles(product_tile<T, kRows<T>, 1>, kRows<T>, h, w, c);
            w = pair ? tiles(product_tile<T, 1, 2>, 1, h, w, c) : tiles(product_tile<T, 1, 1>, 1, h, w, c);
            c += pair ? 2 * lanes<T> : lanes<T>;
        }
}

// total [outputs, inputs] += g' x of rows [first, stop) of planes
template <typename T>
void outer_product(Grid<T> g, Grid<T> x, T* total, long first, long stop, long width, long inputs, long outputs) {
    constexpr int B = lanes<T>;
    const long count = (stop - first) * width;
    for (long o = 0; o < outputs; o += B)
        for (long c = 0; c < inputs; c += lanes<T>) {
            const T *gs = g.at(first, 0, o / B), *xs = x.at(first, 0, c / lanes<T>);
            Lanes<T> sums[B] = {};
            for (long r = 0; r < count; ++r) {
                const Lanes<T> row = at(xs + r * lanes<T>);
                for (int b = 0; b < B; ++b) accumulate(sums[b], lane(gs + r * B, b), row);
            }
            for (int b = 0; b < B; ++b) at(total + (o + b) * inputs + c) += sums[b];
        }
}
