"""The vocabulary: plain frozen data that every other room speaks."""
