module gzero/figures

go 1.23
