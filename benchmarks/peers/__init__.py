"""fastconv beside other libraries on the same layers: ``python -m benchmarks.peers``.

Every column of the tables is a process of its own, so that thread pools, allocators and OpenMP
run-times do not meet. For each layer all processes draw the same operands from the same seed,
prepare (build a model, pack weights), and hand back a sample of their result, which is held
against the definition. Then they are asked in turn, round after round, for a short slice of calls;
a column's time is the median over its slices. The multiply-add peak is measured in the same
rounds, by one more process. On a shared machine only ratios inside one run mean anything.
"""
