// A node of a recurrent cell: all activations of all sources mixed, and its first derivatives.
//
// Maps are [J, N, H], what is gated [J, N, 2 H]: a gate beside a candidate. Any H.
#pragma once

#include "maps.h"

template <typename T>
inline void exponential(Lanes<T>& x) {
    for (long i = 0; i < lanes<T>; ++i) x[i] = std::exp(x[i]);
}

// 2^n e^r by a polynomial of degree 7 (Taylor's, |r| <= ln 2 / 2): relative error below 1e-7. NaN stays NaN.
template <>
inline void exponential<float>(Lanes<float>& x) {
    typedef int Ints __attribute__((vector_size(64)));
    const Lanes<float> low = Lanes<float>{} - 87.0f, high = Lanes<float>{} + 88.0f;
    x = x < low ? low : x;
    x = x > high ? high : x;
    const float round = 12582912.0f;  // 1.5 * 2^23: what is added to it loses its fraction
    const Lanes<float> shifted = x * 1.44269504f + round, n = shifted - round;
    const Lanes<float> r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Lanes<float> y = r * (1.0f / 5040) + (1.0f / 720);
    y = y * r + (1.0f / 120);
    y = y * r + (1.0f / 24);
    y = y * r + (1.0f / 6);
    y = y * r + 0.5f;
    y = y * r * r + r + 1.0f;
    const Ints exponent = (__builtin_convertvector(n, Ints) + 127) << 23;
    Lanes<float> scale;
    std::memcpy(&scale, &exponent, sizeof scale);
    x = y * scale;
}

template <typename T>
struct Highway {
    long sources, samples, hidden, threads;
    const T* weights;  // [J, 4]: of tanh, ReLU, sigmoid and identity

    // Of the candidates h of a vector: what the activations are, and their derivatives.
    struct Activations {
        Lanes<T> tanh, relu, sigmoid, h;
        explicit Activations(const Lanes<T>& candidate) : h(candidate) {
            const Lanes<T> zero = {};
            Lanes<T> e = -h;
            exponential<T>(e);
            sigmoid = T(1) / (e + T(1));
            tanh = T(2) / (e * e + T(1)) - T(1);
            relu = h > zero ? h : zero;
        }
        Lanes<T> mixed(const T* p) const { return tanh * p[0] + relu * p[1] + sigmoid * p[2] + h * p[3]; }
        Lanes<T> slope(const T* p) const {
            const Lanes<T> zero = {}, positive = zero + p[1];
            return (T(1) - tanh * tanh) * p[0] + (h > zero ? positive : zero) + sigmoid * (T(1) - sigmoid) * p[2] + p[3];
        }
    };

    // Leaves gates after their sigmoid, and slopes times gates in the candidates' place unless `keep_candidates`.
    void forward(const T* states, T* gated, T* excess, T* node, long keep_candidates) const {
        each_vector([&](long n, long h, long count, long) {
            Lanes<T> sum = {};
            for (long j = 0; j < sources; ++j) {
                const T* p = weights + 4 * j;
                T* gates = gated + 2 * row(j, n) + h;
                Lanes<T> gate = -load(gates, count);
                exponential<T>(gate);
                gate = T(1) / (gate + T(1));
                const Activations activations(load(gates + hidden, count));
                const Lanes<T> kept = load(states + row(j, n) + h, count) * (p[0] + p[1] + p[2] + p[3]);
                const Lanes<T> own = gate * (activations.mixed(p) - kept);
                sum += kept + own;
                store(excess + row(j, n) + h, own, count);
                store(gates, gate, count);
                if (!keep_candidates) store(gates + hidden, gate * activations.slope(p), count);
            }
            store(node + n * hidden + h, sum, count);
        });
    }

    // From what `forward` left without candidates: of P_j s_j, of gates and candidates.
    void gradient(const T* g, const T* gated, const T* excess, T* of_kept, T* of_gated) const {
        each_vector([&](long n, long h, long count, long) {
            const Lanes<T> above = load(g + n * hidden + h, count);
            for (long j = 0; j < sources; ++j) {
                const T* gates = gated + 2 * row(j, n) + h;
                T* into = of_gated + 2 * row(j, n) + h;
                const Lanes<T> kept = above - above * load(gates, count);
                store(of_kept + row(j, n) + h, kept, count);
                store(into, kept * load(excess + row(j, n) + h, count), count);
                store(into + hidden, above * load(gates + hidden, count), count);
            }
        });
    }

    // From what `forward` left with candidates; of the weights [J, 4], too.
    void mixture_gradient(const T* g, const T* states, const T* gated, const T* excess, T* of_kept, T* of_gated,
                          T* of_weights) const {
        Scratch scratch;
        const long slices = Worker{0, 1, samples, nullptr}.slices(), part = sources * 5 * lanes<T>;
        T* sums = scratch.of<T>(slices * part);
        std::memset(static_cast<void*>(sums), 0, slices * part * sizeof(T));
        each_vector([&](long n, long h, long count, long slice) {
            const Lanes<T> above = load(g + n * hidden + h, count);
            for (long j = 0; j < sources; ++j) {
                const T *p = weights + 4 * j, *gates = gated + 2 * row(j, n) + h;
                T *into = of_gated + 2 * row(j, n) + h, *sum = sums + slice * part + j * 5 * lanes<T>;
                const Lanes<T> blended = above * load(gates, count), kept = above - blended;
                const Activations found(load(gates + hidden, count));
                store(of_kept + row(j, n) + h, kept, count);
                store(into, kept * load(excess + row(j, n) + h, count), count);
                store(into + hidden, blended * found.slope(p), count);
                at(sum) += blended * found.tanh;
                at(sum + lanes<T>) += blended * found.relu;
                at(sum + 2 * lanes<T>) += blended * found.sigmoid;
                at(sum + 3 * lanes<T>) += blended * found.h;
                at(sum + 4 * lanes<T>) += kept * load(states + row(j, n) + h, count);
            }
        });
        for (long j = 0; j < sources; ++j) {
            T totals[5] = {};
            for (long slice = 0; slice < slices; ++slice)
                for (long k = 0; k < 5; ++k)
                    for (long i = 0; i < lanes<T>; ++i) totals[k] += sums[slice * part + (j * 5 + k) * lanes<T> + i];
            for (long k = 0; k < 4; ++k) of_weights[4 * j + k] = totals[k] + totals[4];
        }
    }

  private:
    long row(long j, long n) const { return (j * samples + n) * hidden; }
    // visit(sample, first unit, units of this vector, slice), shared among threads
    template <typename Visit>
    void each_vector(Visit visit) const {
        work_together(threads, samples, [&](const Worker& worker) {
            worker.share_samples([&](long n, long slice) {
                for (long h = 0; h < hidden; h += lanes<T>)
                    visit(n, h, hidden - h < lanes<T> ? hidden - h : lanes<T>, slice);
            });
        });
    }
    static Lanes<T> load(const T* p, long count) {
        if (count == lanes<T>) return at(p);
        Lanes<T> found = {};
        for (long i = 0; i < count; ++i) found[i] = p[i];
        return found;
    }
    static void store(T* p, const Lanes<T>& value, long count) {
        if (count == lanes<T>) at(p) = value;
        for (long i = 0; i < count && count < lanes<T>; ++i) p[i] = value[i];
    }
};
