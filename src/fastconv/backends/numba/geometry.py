"""The one argument of the compiled kernels: a record of 64-bit integers."""

from __future__ import annotations

import numpy as np

#: Strides are in elements (x_n: of x along n), addresses in bytes. See `blocking` for the blocks.
FIELDS = (
    "h", "w", "p", "q", "s", "stride_h", "stride_w", "dilation_h", "dilation_w", "top", "left",
    "pad_mode", "activation", "has_bias",
    "groups", "inputs", "outputs",  # input and output channels of one group
    "taps", "total",  # of one kernel; output pixels of the whole batch
    "x_n", "x_c", "x_h", "x_w", "w_k", "w_c", "w_r", "w_s", "y_n", "y_k", "y_p", "y_q",
    "w_in_place",  # w is contiguous accumulators already
    "strip", "block_rows", "block_columns", "block_channels", "block_groups",
    "channel_step", "tap_step", "tasks",
    "phases_h", "phases_w", "reach_h", "reach_w",
    "line", "row_pitch", "channel_pitch",  # elements of a strip's line, row of lines, channel
    "sums_at", "weights_at", "slot_size",  # offsets in a thread's scratch, and its size
    "gather", "gather_weights", "multiply", "finish",  # addresses of the stages
    "x_data", "w_data", "bias", "y_data", "scratch", "counter",  # addresses
    "offsets", "row_phases", "column_phases",  # addresses of int64 tables
)  # fmt: skip
GEOMETRY = np.dtype([(name, np.int64) for name in FIELDS])
#: Where a field stands when the record is seen as words.
WORD = {name: index for index, name in enumerate(FIELDS)}
