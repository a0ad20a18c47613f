"""pgoutput: the readable decoder (`messages`) and the generated one (`transcoder`). Pure: bytes in, values out."""
