-- server's incarnation, epoch
local d = load()
if not d or not d.seat or sub(d.seat, 1, 8) ~= ARGV[1] or d.epoch ~= tonumber(ARGV[2]) then return 0 end
leave(d)
save(d)
return 1
