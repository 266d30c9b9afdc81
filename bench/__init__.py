"""The benchmark suite: fastmlp beside the alternatives that users would choose, measured on their own machine."""
