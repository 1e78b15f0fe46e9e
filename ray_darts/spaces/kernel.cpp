// The most expensive operations of a search step on a CPU, on dense [N, H, W, C] maps with C a multiple of 64 bytes:
// depthwise and pointwise convolution at stride 1, fused forward and backward, and batch norm by batch statistics.
// One thread. 64 bytes of channels are one vector; rows are summed in blocks, so that float32 loses little precision.

#include <cmath>
#include <cstdlib>
#include <cstring>

namespace {

template <typename T>
using Lanes __attribute__((vector_size(64), aligned(sizeof(T)))) = T;

constexpr long kRows = 8, kBlock = 256;  // rows computed per load of weights; summed in T before a total

template <typename T>
constexpr long lanes = 64 / sizeof(T);

// Scratch memory that is freed when its thread ends.
struct Scratch {
    void* memory = nullptr;
    size_t size = 0;
    template <typename T>
    T* of(long count) {
        const size_t wanted = (count * sizeof(T) + 63) / 64 * 64;
        if (wanted > size) {
            std::free(memory);
            memory = std::aligned_alloc(64, wanted);
            size = wanted;
        }
        return static_cast<T*>(memory);
    }
    ~Scratch() { std::free(memory); }
};
thread_local Scratch framed_scratch, rows_scratch, table_scratch;

struct Maps {
    long samples, height, width, channels, dilation;
    long rows() const { return height * width; }
};

template <typename T>
const Lanes<T>& at(const T* p) { return *reinterpret_cast<const Lanes<T>*>(p); }
template <typename T>
Lanes<T>& at(T* p) { return *reinterpret_cast<Lanes<T>*>(p); }

// One vector of channels of one sample, padded by `reach` zeros: [H + 2 reach, W + 2 reach] vectors.
template <typename T>
const Lanes<T>* framed(const T* x, const Maps& m, long reach) {
    const long width = m.width + 2 * reach;
    auto* frame = reinterpret_cast<Lanes<T>*>(framed_scratch.of<T>((m.height + 2 * reach) * width * lanes<T>));
    std::memset(frame, 0, (m.height + 2 * reach) * width * 64);
    for (long h = 0; h < m.height; ++h)
        for (long w = 0; w < m.width; ++w)
            frame[(h + reach) * width + w + reach] = at(x + (h * m.width + w) * m.channels);
    return frame;
}

template <typename T, int K, int B>
void tile(const Lanes<T>* frame, const Lanes<T>* taps, T* y, long width, long channels, long dilation) {
    Lanes<T> sums[B] = {};
    for (int i = 0; i < K; ++i)
        for (int j = 0; j < K; ++j) {
            const Lanes<T> tap = taps[i * K + j];
            const Lanes<T>* from = frame + i * dilation * width + j * dilation;
            for (int b = 0; b < B; ++b) sums[b] += tap * from[b];
        }
    for (int b = 0; b < B; ++b) at(y + b * channels) = sums[b];
}

// Convolves each channel of one padded vector by its own kernel.
template <typename T, int K>
void depthwise(const Lanes<T>* frame, const Lanes<T>* taps, T* y, const Maps& m) {
    const long width = m.width + 2 * m.dilation * (K / 2);
    for (long h = 0; h < m.height; ++h) {
        const Lanes<T>* row = frame + h * width;
        T* out = y + h * m.width * m.channels;
        long w = 0;
        for (; w + kRows <= m.width; w += kRows)
            tile<T, K, kRows>(row + w, taps, out + w * m.channels, width, m.channels, m.dilation);
        for (; w < m.width; ++w) tile<T, K, 1>(row + w, taps, out + w * m.channels, width, m.channels, m.dilation);
    }
}

// taps[K K] += the gradient of one vector's kernel from one sample.
template <typename T, int K>
void depthwise_gradient(const Lanes<T>* frame, const T* g, Lanes<T>* taps, const Maps& m) {
    const long width = m.width + 2 * m.dilation * (K / 2);
    for (int i = 0; i < K; ++i) {
        Lanes<T> even[K] = {}, odd[K] = {};
        for (long h = 0; h < m.height; ++h) {
            const Lanes<T>* row = frame + (h + i * m.dilation) * width;
            const T* gs = g + h * m.width * m.channels;
            long w = 0;
            for (; w + 2 <= m.width; w += 2) {
                const Lanes<T> one = at(gs + w * m.channels), other = at(gs + (w + 1) * m.channels);
                for (int j = 0; j < K; ++j) {
                    even[j] += one * row[w + j * m.dilation];
                    odd[j] += other * row[w + 1 + j * m.dilation];
                }
            }
            if (w < m.width)
                for (int j = 0; j < K; ++j) even[j] += at(gs + w * m.channels) * row[w + j * m.dilation];
        }
        for (int j = 0; j < K; ++j) taps[i * K + j] += even[j] + odd[j];
    }
}

template <typename T, int B>
void product_tile(const T* x, const T* table, T* y, long channels) {
    for (long c = 0; c < channels; c += lanes<T>) {
        Lanes<T> sums[B] = {};
        for (long k = 0; k < channels; ++k) {
            const Lanes<T> weights = at(table + k * channels + c);
            for (int b = 0; b < B; ++b) sums[b] += x[b * channels + k] * weights;
        }
        for (int b = 0; b < B; ++b) at(y + b * channels + c) = sums[b];
    }
}

// y [R, C] = x [R, C] table [C, C]
template <typename T>
void product(const T* x, const T* table, T* y, long rows, long channels) {
    long r = 0;
    for (; r + kRows <= rows; r += kRows) product_tile<T, kRows>(x + r * channels, table, y + r * channels, channels);
    for (; r < rows; ++r) product_tile<T, 1>(x + r * channels, table, y + r * channels, channels);
}

// total [C, C] += g' x, both [R, C]
template <typename T>
void outer_product(const T* g, const T* x, T* total, long rows, long channels) {
    for (long start = 0; start < rows; start += kBlock) {
        const long stop = start + kBlock < rows ? start + kBlock : rows;
        for (long o = 0; o < channels; o += kRows)
            for (long c = 0; c < channels; c += lanes<T>) {
                Lanes<T> sums[kRows] = {};
                for (long r = start; r < stop; ++r) {
                    const Lanes<T> row = at(x + r * channels + c);
                    for (int b = 0; b < kRows; ++b) sums[b] += g[r * channels + o + b] * row;
                }
                for (int b = 0; b < kRows; ++b) at(total + (o + b) * channels + c) += sums[b];
            }
    }
}

// taps [C / lanes, K K] vectors from weights [C, K, K], rotated by 180 degrees if asked
template <typename T, int K>
Lanes<T>* gathered(const T* weight, long channels, bool turned) {
    T* taps = table_scratch.of<T>(channels * K * K + channels * channels);
    for (long c = 0; c < channels; ++c)
        for (int k = 0; k < K * K; ++k)
            taps[(c / lanes<T> * K * K + k) * lanes<T> + c % lanes<T>] = weight[c * K * K + (turned ? K * K - 1 - k : k)];
    return reinterpret_cast<Lanes<T>*>(taps);
}

// y = pointwise(depthwise(x)); `filtered` keeps depthwise(x) unless null
template <typename T, int K>
void separable(const T* x, const T* weight, const T* mixing, T* filtered, T* y, const Maps& m) {
    const Lanes<T>* taps = gathered<T, K>(weight, m.channels, false);
    T* table = table_scratch.of<T>(m.channels * K * K + m.channels * m.channels) + m.channels * K * K;
    for (long o = 0; o < m.channels; ++o)
        for (long c = 0; c < m.channels; ++c) table[c * m.channels + o] = mixing[o * m.channels + c];
    const long size = m.rows() * m.channels;
    T* scratch = filtered ? nullptr : rows_scratch.of<T>(size);
    for (long n = 0; n < m.samples; ++n) {
        T* inner = filtered ? filtered + n * size : scratch;
        for (long c = 0; c < m.channels; c += lanes<T>)
            depthwise<T, K>(framed(x + n * size + c, m, m.dilation * (K / 2)), taps + c / lanes<T> * K * K, inner + c, m);
        product(inner, table, y + n * size, m.rows(), m.channels);
    }
}

// Gradients of `separable`; those whose pointer is null are left out. `gweight` [C, K, K] and `gmixing` [C, C] start at 0.
template <typename T, int K>
void separable_gradient(const T* g, const T* x, const T* filtered, const T* weight, const T* mixing, T* gx, T* gweight,
                        T* gmixing, const Maps& m) {
    const Lanes<T>* turned = gathered<T, K>(weight, m.channels, true);
    const long size = m.rows() * m.channels, reach = m.dilation * (K / 2);
    T* inner = rows_scratch.of<T>(size + m.channels * K * K);
    auto* taps = reinterpret_cast<Lanes<T>*>(inner + size);
    std::memset(static_cast<void*>(taps), 0, m.channels * K * K * sizeof(T));
    for (long n = 0; n < m.samples; ++n) {
        if (gmixing) outer_product(g + n * size, filtered + n * size, gmixing, m.rows(), m.channels);
        if (!gx && !gweight) continue;
        product(g + n * size, mixing, inner, m.rows(), m.channels);
        for (long c = 0; c < m.channels; c += lanes<T>) {
            const long block = c / lanes<T> * K * K;
            if (gx) depthwise<T, K>(framed(inner + c, m, reach), turned + block, gx + n * size + c, m);
            if (gweight) depthwise_gradient<T, K>(framed(x + n * size + c, m, reach), inner + c, taps + block, m);
        }
    }
    if (gweight)
        for (long c = 0; c < m.channels; ++c)
            for (int k = 0; k < K * K; ++k)
                gweight[c * K * K + k] = taps[c / lanes<T> * K * K + k][c % lanes<T>];
}

// Sums over rows of two terms, vector by vector of channels, in double.
template <typename T, typename Terms>
void sums_over_rows(long rows, double* first, double* second, Terms terms) {
    for (long l = 0; l < lanes<T>; ++l) first[l] = second[l] = 0;
    for (long start = 0; start < rows; start += kBlock) {
        const long stop = start + kBlock < rows ? start + kBlock : rows;
        Lanes<T> one[2] = {}, two[2] = {};
        long r = start;
        for (; r + 2 <= stop; r += 2) {
            terms(r, one[0], two[0]);
            terms(r + 1, one[1], two[1]);
        }
        if (r < stop) terms(r, one[0], two[0]);
        const Lanes<T> a = one[0] + one[1], b = two[0] + two[1];
        for (long l = 0; l < lanes<T>; ++l) {
            first[l] += a[l];
            second[l] += b[l];
        }
    }
}

// Batch norm of [R, C]: mean and 1 / deviation [C] are kept; running statistics [C] move unless null.
template <typename T>
void batch_norm(const T* x, const T* gain, const T* bias, T* y, T* kept_mean, T* kept_scale, T* running_mean,
                T* running_var, long rows, long channels, double momentum, double epsilon) {
    double first[lanes<T>], second[lanes<T>];
    for (long c = 0; c < channels; c += lanes<T>) {
        const T* xs = x + c;
        sums_over_rows<T>(rows, first, second, [&](long r, Lanes<T>& sum, Lanes<T>&) { sum += at(xs + r * channels); });
        Lanes<T> mean, scale, shift;
        for (long l = 0; l < lanes<T>; ++l) mean[l] = first[l] / rows;
        sums_over_rows<T>(rows, first, second, [&](long r, Lanes<T>& sum, Lanes<T>& squares) {
            const Lanes<T> offset = at(xs + r * channels) - mean;
            sum += offset;
            squares += offset * offset;
        });
        for (long l = 0; l < lanes<T>; ++l) {
            const double rest = first[l] / rows, exact = double(mean[l]) + rest;   // `rest`: rounding error of `mean`
            const double var = second[l] / rows - rest * rest, deviation = 1 / std::sqrt(var + epsilon);
            kept_mean[c + l] = exact;
            kept_scale[c + l] = deviation;
            scale[l] = gain ? deviation * gain[c + l] : deviation;
            shift[l] = (bias ? bias[c + l] : 0) - rest * scale[l];
            if (running_mean) {
                running_mean[c + l] += momentum * (exact - running_mean[c + l]);
                running_var[c + l] += momentum * (var * rows / (rows - 1) - running_var[c + l]);
            }
        }
        for (long r = 0; r < rows; ++r) at(y + r * channels + c) = (at(xs + r * channels) - mean) * scale + shift;
    }
}

// Gradients of `batch_norm`; those of gain and bias are left out where null.
template <typename T>
void batch_norm_gradient(const T* g, const T* x, const T* gain, const T* mean, const T* deviation, T* gx, T* ggain,
                         T* gbias, long rows, long channels) {
    double first[lanes<T>], second[lanes<T>];
    for (long c = 0; c < channels; c += lanes<T>) {
        const Lanes<T> middle = at(mean + c), inverse = at(deviation + c);
        sums_over_rows<T>(rows, first, second, [&](long r, Lanes<T>& sum, Lanes<T>& products) {
            const Lanes<T> above = at(g + r * channels + c);
            sum += above;
            products += above * ((at(x + r * channels + c) - middle) * inverse);
        });
        Lanes<T> scale, sum, slope;
        for (long l = 0; l < lanes<T>; ++l) {
            if (gbias) gbias[c + l] = first[l];
            if (ggain) ggain[c + l] = second[l];
            scale[l] = gain ? inverse[l] * gain[c + l] : inverse[l];
            sum[l] = first[l] / rows;
            slope[l] = second[l] / rows * inverse[l];
        }
        for (long r = 0; r < rows; ++r)
            at(gx + r * channels + c) =
                (at(g + r * channels + c) - sum - (at(x + r * channels + c) - middle) * slope) * scale;
    }
}

}  // namespace

#define EXPORT(NAME, T)                                                                                               \
    extern "C" void NAME##_separable(const T* x, const T* weight, const T* mixing, T* filtered, T* y, long size,      \
                                     long n, long h, long w, long c, long dilation) {                                 \
        const Maps m{n, h, w, c, dilation};                                                                           \
        (size == 3 ? separable<T, 3> : separable<T, 5>)(x, weight, mixing, filtered, y, m);                           \
    }                                                                                                                 \
    extern "C" void NAME##_separable_gradient(const T* g, const T* x, const T* filtered, const T* weight,             \
                                              const T* mixing, T* gx, T* gweight, T* gmixing, long size, long n,      \
                                              long h, long w, long c, long dilation) {                                \
        const Maps m{n, h, w, c, dilation};                                                                           \
        (size == 3 ? separable_gradient<T, 3> : separable_gradient<T, 5>)(g, x, filtered, weight, mixing, gx,         \
                                                                          gweight, gmixing, m);                       \
    }                                                                                                                 \
    extern "C" void NAME##_batch_norm(const T* x, const T* gain, const T* bias, T* y, T* mean, T* scale, T* running,  \
                                      T* var, long rows, long channels, double momentum, double epsilon) {            \
        batch_norm<T>(x, gain, bias, y, mean, scale, running, var, rows, channels, momentum, epsilon);                \
    }                                                                                                                 \
    extern "C" void NAME##_batch_norm_gradient(const T* g, const T* x, const T* gain, const T* mean, const T* scale,  \
                                               T* gx, T* ggain, T* gbias, long rows, long channels) {                 \
        batch_norm_gradient<T>(g, x, gain, mean, scale, gx, ggain, gbias, rows, channels);                            \
    }
EXPORT(float32, float)
EXPORT(float64, double)
