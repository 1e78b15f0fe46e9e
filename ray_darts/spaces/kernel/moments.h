// Sums over the pixels of maps, and what batch norm by the batch's statistics makes of them.
#pragma once

#include "maps.h"

template <typename T>
inline void add_to(Wide<T>* total, const Lanes<T>& sum) {
    for (long l = 0; l < lanes<T>; ++l) total[l] += Wide<T>(sum[l]);
}

// Sums over rows of two terms, vector by vector of channels, in double.
template <typename T, typename Terms>
inline void sums_over_rows(long rows, Wide<T>* first, Wide<T>* second, Terms terms) {
    for (long l = 0; l < lanes<T>; ++l) first[l] = second[l] = 0;
    for (long start = 0; start < rows; start += kBlock) {
        const long stop = start + kBlock < rows ? start + kBlock : rows;
        Lanes<T> one[4] = {}, two[4] = {};
        long r = start;
        for (; r + 4 <= stop; r += 4)
            for (int k = 0; k < 4; ++k) terms(r + k, one[k], two[k]);
        for (; r < stop; ++r) terms(r, one[0], two[0]);
        add_to<T>(first, (one[0] + one[1]) + (one[2] + one[3]));
        add_to<T>(second, (two[0] + two[1]) + (two[2] + two[3]));
    }
}

// Mean and sum of squared offsets from it, of one vector of channels: `rows` vectors, `step` apart.
template <typename T>
inline void moments(const T* x, long rows, long step, Wide<T>* mean, Wide<T>* squares) {
    Wide<T> first[lanes<T>], second[lanes<T>];
    sums_over_rows<T>(rows, first, second, [&](long r, Lanes<T>& sum, Lanes<T>&) { sum += at(x + r * step); });
    T found[lanes<T>];
    for (long l = 0; l < lanes<T>; ++l) put_lane(found, l, first[l] / rows);
    const Lanes<T> middle = at(found);
    sums_over_rows<T>(rows, first, second, [&](long r, Lanes<T>& sum, Lanes<T>& square) {
        const Lanes<T> offset = at(x + r * step) - middle;
        sum += offset;
        accumulate(square, offset, offset);
    });
    for (long l = 0; l < lanes<T>; ++l) {
        const Wide<T> rest = first[l] / rows;  // the rounding error of `middle`
        mean[l] = Wide<T>(middle[l]) + rest;
        squares[l] = second[l] - rest * first[l];
    }
}

// The moments of `so_far` vectors become those of `rows` more (Chan, Golub and LeVeque, 1979).
template <typename T>
inline void add_moments(const T* x, long rows, long step, long so_far, Wide<T>* mean, Wide<T>* squares) {
    Wide<T> own_mean[lanes<T>], own_squares[lanes<T>];
    moments(x, rows, step, so_far ? own_mean : mean, so_far ? own_squares : squares);
    if (!so_far) return;
    const double share = double(rows) / (so_far + rows);
    for (long l = 0; l < lanes<T>; ++l) {
        const Wide<T> offset = own_mean[l] - mean[l];
        mean[l] += offset * share;
        squares[l] += own_squares[l] + offset * offset * so_far * share;
    }
}

// The statistics of batch norm: running ones move unless null.
template <typename T>
struct Statistics {
    T *mean, *scale, *running_mean, *running_var;  // scale: 1 / deviation
    double momentum, epsilon;

    // from the moments of each sample, [samples, 2, channels]: their means and squared offsets
    void set(const Wide<T>* of_samples, long samples, long rows, long channels) const {
        for (long c = 0; c < channels; ++c) {
            Wide<T> total = 0, squares = 0;
            for (long n = 0; n < samples; ++n) total += of_samples[2 * n * channels + c];
            const Wide<T> middle = total / samples;
            for (long n = 0; n < samples; ++n) {
                const Wide<T> offset = of_samples[2 * n * channels + c] - middle;
                squares += of_samples[(2 * n + 1) * channels + c] + rows * offset * offset;
            }
            const double count = double(samples) * rows;
            put(mean, c, middle);
            put(scale, c, 1 / sqrt(squares / count + epsilon));
            if (!running_mean) continue;
            move(running_mean, c, middle);
            move(running_var, c, squares / (count - 1));
        }
    }

  private:
    void move(T* running, long c, const Wide<T>& to) const {
        const Wide<T> from(get(running, c));
        put(running, c, from + momentum * (to - from));
    }
};

// The gradient of batch norm in its input x: a g + b (x - mean) + c, each [channels].
template <typename T>
struct Slopes {
    T *mean, *a, *b, *c;
    // `first`, `second`: sums over `count` pixels of g and of g (x - mean); `gain` multiplies the normalised map
    void set(const T* of_mean, const T* scale, Wide<T> gain, const Wide<T>* first, const Wide<T>* second, double count,
             long channels) const {
        for (long i = 0; i < channels; ++i) {
            const Wide<T> inverse(get(scale, i));
            put(mean, i, get(of_mean, i));
            put(a, i, inverse * gain);
            const Wide<T> factor(get(a, i));
            put(b, i, -factor * inverse * inverse * second[i] / count);
            put(c, i, -factor * first[i] / count);
        }
    }
    // to = the gradient, of `rows` pixels of one block
    void apply(const T* g, long g_step, const T* x, T* to, long rows, long block) const {
        const Lanes<T> m = at(mean + block), a_ = at(a + block), b_ = at(b + block), c_ = at(c + block);
        for (long r = 0; r < rows; ++r)
            at(to + r * lanes<T>) = at(g + r * g_step) * a_ + ((at(x + r * lanes<T>) - m) * b_ + c_);
    }
};
