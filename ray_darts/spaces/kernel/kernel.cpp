// The most expensive operations of a search step on a CPU, on dense [N, H, W, C] maps with C a multiple of 64 bytes.
//
// Threads share samples; no result depends on how many there are, as samples are added up in slices of the batch.

#include "group_forward.h"
#include "group_gradient.h"

namespace {

// One separable convolution as a group of one edge without batch norm; sizes of one sample.
template <typename T>
struct Separable {
    Depthwise depthwise;
    long samples, height, width, channels, threads;
    const T *kernel, *mixing;

    long blocks() const { return channels / lanes<T>; }
    long taps() const { return depthwise.size * depthwise.size; }
    long size() const { return height * width * channels; }
    Grid<T> map(const T* maps, long n) const { return dense(const_cast<T*>(maps) + n * size(), width, channels); }

    void forward(const T* x, T* y) const {
        Scratch weights_scratch;
        T* weights = weights_scratch.of<T>(channels * (taps() + channels));
        T* table = weights + channels * taps();
        gather_taps(kernel, weights, depthwise.size, channels, false);
        transpose(mixing, table, channels);
        work_together(threads, samples, [&](const Worker& worker) {
            Scratch frame_scratch, filtered_scratch;
            const Grid<T> frame = framed<T>(frame_scratch, height, width, blocks(), depthwise.reach());
            const Grid<T> filtered = planes(filtered_scratch.of<T>(size()), height, width);
            worker.share_samples([&](long n, long) {
                fill(map(x, n), frame, height, width, blocks(), [](const Lanes<T>& value, long) { return value; });
                for_each_strip(height, width, [&](long first, long stop) {
                    for (long b = 0; b < blocks(); ++b)
                        convolve(depthwise, frame.from_block(b), weights + b * lanes<T> * taps(), filtered.from_block(b),
                                 first, stop, width);
                    product(filtered, table, map(y, n), first, stop, width, channels);
                });
            });
        });
    }

    // gradients are null where nobody asks; x is read for those of the weights alone
    void gradient(const T* g, const T* x, T* gx, T* of_kernel, T* of_mixing) const {
        Scratch weights_scratch, slices_scratch;
        const long count = channels * taps(), square = channels * channels;
        T* weights = weights_scratch.of<T>(2 * count);
        gather_taps(kernel, weights, depthwise.size, channels, false);
        gather_taps(kernel, weights + count, depthwise.size, channels, true);
        const long slices = Worker{0, 1, samples, nullptr}.slices(), part = count + square;
        T* sums = x ? slices_scratch.of<T>(slices * part) : nullptr;
        if (sums) std::memset(static_cast<void*>(sums), 0, slices * part * sizeof(T));
        work_together(threads, samples, [&](const Worker& worker) {
            Scratch scratch[4];
            const Grid<T> frame = framed<T>(scratch[0], height, width, blocks(), depthwise.reach());
            const Grid<T> inner = framed<T>(scratch[1], height, width, blocks(), depthwise.reach());
            const Grid<T> filtered = planes(scratch[2].of<T>(size()), height, width);
            const Grid<T> above = planes(scratch[3].of<T>(size()), height, width);
            worker.share_samples([&](long n, long slice) {
                T* own = sums ? sums + slice * part : nullptr;
                const StageBack<T> back{depthwise, height, width, height, width, channels, weights, weights + count,
                                        mixing, own, own ? own + count : nullptr};
                if (x) fill(map(x, n), frame, height, width, blocks(), [](const Lanes<T>& v, long) { return v; });
                const Grid<T> given = map(g, n);
                for_each(height, width, blocks(), [&](long h, long w, long b) { at(above.at(h, w, b)) = at(given.at(h, w, b)); });
                back(frame, above, filtered, inner, gx ? map(gx, n) : filtered, gx != nullptr, false, [](long, long) {});
            });
        });
        for (long slice = 1; slice < slices && sums; ++slice)
            for (long k = 0; k < part; ++k) sums[k] += sums[slice * part + k];
        if (of_kernel) scatter_taps(sums, of_kernel, depthwise.size, channels);
        if (of_mixing) std::memcpy(of_mixing, sums + count, square * sizeof(T));
    }
};

// Batch norm of [samples, rows, C] with the statistics of the batch.
template <typename T>
struct BatchNorm {
    long samples, rows, channels, threads;

    // visit(sample, first channel of a vector), shared among threads
    template <typename Visit>
    void each(Visit visit) const {
        work_together(threads, samples, [&](const Worker& worker) {
            worker.share_samples([&](long n, long) {
                for (long c = 0; c < channels; c += lanes<T>) visit(n, c);
            });
        });
    }

    void forward(const T* x, const T* gain, const T* bias, T* y, const Statistics<T>& statistics) const {
        std::vector<double> of_samples(samples * 2 * channels);
        each([&](long n, long c) {
            double* into = of_samples.data() + 2 * n * channels + c;
            moments(x + n * rows * channels + c, rows, channels, into, into + channels);
        });
        statistics.set(of_samples.data(), samples, rows, channels);
        each([&](long n, long c) {
            const Lanes<T> mean = at(statistics.mean + c), shift = bias ? at(bias + c) : Lanes<T>{};
            const Lanes<T> scale = gain ? at(statistics.scale + c) * at(gain + c) : at(statistics.scale + c);
            const long first = n * rows * channels + c;
            for (long r = 0; r < rows; ++r)
                at(y + first + r * channels) = (at(x + first + r * channels) - mean) * scale + shift;
        });
    }

    void gradient(const T* g, const T* x, const T* gain, const T* mean, const T* scale, T* gx, T* of_gain,
                  T* of_bias) const {
        std::vector<double> of_samples(samples * 2 * channels), sums(2 * channels);
        each([&](long n, long c) {
            const Lanes<T> middle = at(mean + c);
            double* into = of_samples.data() + 2 * n * channels + c;
            const long first = n * rows * channels + c;
            sums_over_rows<T>(rows, into, into + channels, [&](long r, Lanes<T>& sum, Lanes<T>& products) {
                const Lanes<T> above = at(g + first + r * channels);
                sum += above;
                products += above * (at(x + first + r * channels) - middle);
            });
        });
        for (long n = 0; n < samples; ++n)
            for (long k = 0; k < 2 * channels; ++k) sums[k] += of_samples[2 * n * channels + k];
        std::vector<T> slopes(3 * channels);
        const double count = double(samples) * rows;
        for (long c = 0; c < channels; ++c) {
            const double inverse = scale[c], factor = gain ? inverse * gain[c] : inverse;
            if (of_bias) of_bias[c] = sums[c];
            if (of_gain) of_gain[c] = sums[channels + c] * inverse;
            slopes[c] = factor;
            slopes[channels + c] = -factor * inverse * inverse * sums[channels + c] / count;
            slopes[2 * channels + c] = -factor * sums[c] / count;
        }
        each([&](long n, long c) {
            const T* own = slopes.data() + c;
            const Lanes<T> middle = at(mean + c), a = at(own), b = at(own + channels), rest = at(own + 2 * channels);
            const long first = n * rows * channels + c;
            for (long r = 0; r < rows; ++r)
                at(gx + first + r * channels) =
                    at(g + first + r * channels) * a + ((at(x + first + r * channels) - middle) * b + rest);
        });
    }
};

}  // namespace

#define EXPORT(NAME, T)                                                                                              \
    extern "C" void NAME##_separable(const T* x, const T* kernel, const T* mixing, T* y, long size, long n, long h,  \
                                     long w, long c, long dilation, long threads) {                                  \
        Separable<T>{{size, 1, dilation}, n, h, w, c, threads, kernel, mixing}.forward(x, y);                        \
    }                                                                                                                \
    extern "C" void NAME##_separable_gradient(const T* g, const T* x, const T* kernel, const T* mixing, T* gx,       \
                                              T* of_kernel, T* of_mixing, long size, long n, long h, long w, long c, \
                                              long dilation, long threads) {                                         \
        Separable<T>{{size, 1, dilation}, n, h, w, c, threads, kernel, mixing}.gradient(g, x, gx, of_kernel,         \
                                                                                        of_mixing);                  \
    }                                                                                                                \
    extern "C" void NAME##_batch_norm(const T* x, const T* gain, const T* bias, T* y, T* mean, T* scale, T* running, \
                                      T* var, long n, long rows, long channels, long threads, double momentum,       \
                                      double epsilon) {                                                              \
        BatchNorm<T>{n, rows, channels, threads}.forward(x, gain, bias, y,                                           \
                                                         {mean, scale, running, var, momentum, epsilon});            \
    }                                                                                                                \
    extern "C" void NAME##_batch_norm_gradient(const T* g, const T* x, const T* gain, const T* mean, const T* scale, \
                                               T* gx, T* of_gain, T* of_bias, long n, long rows, long channels,      \
                                               long threads) {                                                       \
        BatchNorm<T>{n, rows, channels, threads}.gradient(g, x, gain, mean, scale, gx, of_gain, of_bias);            \
    }                                                                                                                \
    extern "C" void NAME##_group(const Group<T>* group) { group_forward(*group); }                                   \
    extern "C" void NAME##_group_gradient(const Group<T>* group) { group_gradient(*group); }
extern "C" void* take_memory(size_t* size) { return Store::of_process().take(*size); }
extern "C" void give_memory(void* memory, size_t size) { Store::of_process().give(memory, size); }
EXPORT(float32, float)
EXPORT(float64, double)
