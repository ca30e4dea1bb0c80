"""Circuits over the course of fine-tuning: recorded by a callback, run as a study, analysed into tables."""
