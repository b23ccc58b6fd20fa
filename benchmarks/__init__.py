"""Benchmarks: convolution layers of real networks, and what the article claims, measured.

``pytest --benchmark`` runs them; ``python -m benchmarks.networks`` lists the networks.
"""
