"""The paper's model: configuration, encoders, poolings, heads, loading."""
