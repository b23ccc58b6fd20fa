"""The operators beside `conv2d`: each describes its call, and one mechanism computes them all."""
