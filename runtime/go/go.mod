module vidtok

go 1.19
