// Depthwise and pointwise convolutions, and pointwise ones after a ReLU, of a batch.
#pragma once

#include "group_backward.h"

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
        transpose(mixing, table, channels, channels);
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
                    product(filtered, table, map(y, n), first, stop, width, channels, channels);
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

// relu(x) of [N, H, W, inputs] times weights [outputs, inputs], at the pixels (offset + stride h, offset + stride w), zero
// where there is none; these are the channels from `start` on of the `total` of y.
template <typename T>
struct PositivePointwise {
    long samples, height, width, inputs, outputs, stride, offset, start, total, threads;
    const T* weight;

    long out_height() const { return (height + stride - 1) / stride; }
    long out_width() const { return (width + stride - 1) / stride; }
    Grid<T> read(const T* x, long n) const {
        return dense(const_cast<T*>(x) + n * height * width * inputs, width, inputs);
    }
    Grid<T> written(const T* y, long n) const {
        const Grid<T> whole = dense(const_cast<T*>(y) + n * out_height() * out_width() * total, out_width(), total);
        return whole.from_block(start / lanes<T>);
    }
    // inside(h, w, pixel of x, block) of the rows [first, stop) of y, and outside(h, w, block) where x has no such pixel
    template <typename Inside, typename Outside>
    void each(Grid<T> x, long first, long stop, Inside inside, Outside outside) const {
        const long last_row = (height - offset + stride - 1) / stride, last = (width - offset + stride - 1) / stride;
        for (long h = first; h < stop; ++h) {
            long w = 0;
            if (h < last_row)
                for (const T* pixel = x.at(h * stride + offset, offset, 0); w < last; ++w, pixel += stride * x.pixel)
                    for (long b = 0; b < inputs / lanes<T>; ++b) inside(h, w, pixel + b * x.block, b);
            for (; w < out_width(); ++w)
                for (long b = 0; b < inputs / lanes<T>; ++b) outside(h, w, b);
        }
    }
    void read_positive(Grid<T> x, Grid<T> to, long first, long stop) const {
        each(
            x, first, stop, [&](long h, long w, const T* pixel, long b) { at(to.at(h, w, b)) = positive<T>(at(pixel)); },
            [&](long h, long w, long b) { at(to.at(h, w, b)) = Lanes<T>{}; });
    }

    void forward(const T* x, T* y) const {
        Scratch table_scratch;
        T* table = table_scratch.of<T>(inputs * outputs);
        transpose(weight, table, outputs, inputs);
        work_together(threads, samples, [&](const Worker& worker) {
            Scratch scratch;
            const Grid<T> from = planes(scratch.of<T>(out_height() * out_width() * inputs), out_height(), out_width());
            worker.share_samples([&](long n, long) {
                for_each_strip(out_height(), out_width(), [&](long first, long stop) {
                    read_positive(read(x, n), from, first, stop);
                    product(from, table, written(y, n), first, stop, out_width(), inputs, outputs);
                });
            });
        });
    }

    // Gradients are null where nobody asks; of gx only the pixels that are read are written.
    void gradient(const T* g, const T* x, T* gx, T* of_weight) const {
        const long slices = Worker{0, 1, samples, nullptr}.slices(), part = inputs * outputs;
        Scratch slices_scratch;
        T* sums = of_weight ? slices_scratch.of<T>(slices * part) : nullptr;
        if (sums) std::memset(static_cast<void*>(sums), 0, slices * part * sizeof(T));
        const long rows = out_height(), columns = out_width();
        work_together(threads, samples, [&](const Worker& worker) {
            Scratch scratch[2];
            const Grid<T> from = planes(scratch[0].of<T>(rows * columns * inputs), rows, columns);
            const Grid<T> above = planes(scratch[1].of<T>(rows * columns * outputs), rows, columns);
            worker.share_samples([&](long n, long slice) {
                for_each_strip(rows, columns, [&](long first, long stop) {
                    fill(written(g, n).from_row(first), above.from_row(first), stop - first, columns,
                         outputs / lanes<T>, [](const Lanes<T>& value, long) { return value; });
                    if (sums) {
                        read_positive(read(x, n), from, first, stop);
                        outer_product(above, from, sums + slice * part, first, stop, columns, inputs, outputs);
                    }
                    if (!gx) return;
                    product(above, weight, from, first, stop, columns, outputs, inputs);
                    const Lanes<T> zero = {};
                    each(
                        read(x, n), first, stop,
                        [&](long h, long w, const T* pixel, long b) {
                            at(gx + (pixel - x)) = at(pixel) > zero ? at(from.at(h, w, b)) : zero;
                        },
                        [](long, long, long) {});
                });
            });
        });
        for (long slice = 1; slice < slices && sums; ++slice)
            for (long k = 0; k < part; ++k) sums[k] += sums[slice * part + k];
        if (sums) std::memcpy(of_weight, sums, part * sizeof(T));
    }
};
