"""The alternatives that users would choose, one module per library, each written as its own users would write it well.

A peer is a function of the problem that sets everything up (data placed, code compiled, weights given) and returns a
`Bound`. Libraries are imported inside it, so that one that is not installed is absent, not an error.
"""
