-- lineage, epoch, generation and sequence up to which all is final, then for each rejected: generation, sequence, code
local lineage, epoch, generation, sequence = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local d = load()
if not d then return 0 end
if d.lineage ~= lineage then doubt_all(d) end
for at = 5, #ARGV, 3 do
  finish(d, tonumber(ARGV[at]), tonumber(ARGV[at + 1]), 2, tonumber(ARGV[at + 2]))
end
trim(d, generation, sequence, epoch)
save(d)
return 0
