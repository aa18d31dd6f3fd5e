"""What channels offer, for the search of packages: one compact SQLite file, made anew when
something has changed, which appears by rename.
"""
