"""Parts put together: codecs, language models, their streams, and the folders that they are saved in."""
