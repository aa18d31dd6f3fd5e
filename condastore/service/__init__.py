"""The use cases: each authorises, does one transaction, and wakes whoever must act on it."""
