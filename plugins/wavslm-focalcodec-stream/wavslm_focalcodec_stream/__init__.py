"""FocalCodec-Stream for wavslm: focal quantizer, three decoders, and the official folders."""
