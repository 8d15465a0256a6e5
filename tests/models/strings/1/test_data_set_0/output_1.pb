2a2bcB
same_bytes