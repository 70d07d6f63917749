module getvpn

go 1.26
