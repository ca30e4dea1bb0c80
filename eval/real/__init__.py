"""The proving ground: masks against their controls on a real language model. See `eval/README.md`."""
