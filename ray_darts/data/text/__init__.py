"""Running text: sources, vocabulary, windows for truncated backpropagation through time."""
