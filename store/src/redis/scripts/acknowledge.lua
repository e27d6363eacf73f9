-- lineage, generation and sequence up to which all is final, then for each rejected: generation, sequence, code
local lineage, generation, sequence = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local d = load()
if not d then return 0 end
-- The contents may have gone back: what waits now is not proved by a cumulative trim.
if d.lineage ~= lineage then d.doubt = d.last end
for at = 4, #ARGV, 3 do
  finish(d, tonumber(ARGV[at]), tonumber(ARGV[at + 1]), 2, tonumber(ARGV[at + 2]))
end
trim(d, generation, sequence)
save(d)
return 0
