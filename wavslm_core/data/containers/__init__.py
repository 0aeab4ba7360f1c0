"""What audio containers really hold, whatever their headers say.

libsndfile believes headers: of an MP3 without an index it guesses the length, of files that were joined it
reads the first, of a FLAC file what the first bytes announce. What is found here it can read to the end: each
stretch of the file that is a file of its own, behind a header that is true.
"""
