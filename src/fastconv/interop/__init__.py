"""fastconv inside other libraries: one adapter a module, its library imported only there.

Importing this package imports none of them: ``import fastconv.interop.torch`` imports PyTorch.
Each adapter has a page in ``docs/interop``: how it is used, what it covers, how it was proved.
"""
