"""The benchmark suite: what fastmlp costs, beside what a user would pick instead, measured on their own machine."""
