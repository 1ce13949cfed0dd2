"""Tests of shifts, and when a shift is one."""
