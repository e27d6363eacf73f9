-- generation, sequence, '1' to cancel it if it waits
local generation, sequence, is_cancel = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local d = load()
if not d then return { 12, 0 } end
expire(d, d.seat)
local kind, code = state(d, generation, sequence)
if kind == 8 and is_cancel then
  finish(d, generation, sequence, 5, 0)
  kind = 11
end
save(d)
return { kind, code }
