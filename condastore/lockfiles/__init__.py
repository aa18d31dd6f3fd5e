"""Lockfiles: conda-lock's is the form that is stored; others are made of it, and become it."""
