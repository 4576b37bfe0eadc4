"""Readers of labelled pictures: one module a form, and what all of them share."""
