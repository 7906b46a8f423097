"""Who is who: certificates, private keys, the signed roster, and signed updates; needs no Flower, gRPC or PyTorch."""
