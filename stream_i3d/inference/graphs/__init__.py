"""Networks that other libraries run: their files, the cache of converted ones, the engines around them."""
