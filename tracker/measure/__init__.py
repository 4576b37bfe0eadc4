"""Measure: results against ground truth, detectors against each other, settings on a machine."""
