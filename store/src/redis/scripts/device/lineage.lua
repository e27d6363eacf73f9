local GENERATIONS, DAY = 4, 86400000

-- What is appended from now on belongs to a new generation, beyond the one that the device knows.
local function open_generation(d, devices)
  d.generation = max(now(d), d.generation + 1, devices + 1)
  local g = d.generations
  if #g >= 14 and select(2, unpack('>I7I7', g, #g - 13)) > d.last then g = sub(g, 1, -15) end
  if #g >= 14 * GENERATIONS then g = sub(g, 15) end
  d.generations, d.generations_changed = g .. pack('>I7I7', d.generation, d.last + 1), true
  doubt_all(d)
  d.offered = d.last
end

local function see_lineage(d, lineage, devices)
  if d.lineage == lineage then return end
  open_generation(d, devices)
  d.lineage_changed = d.lineage ~= NO_LINEAGE
  d.lineage = lineage
end

-- Whether numbers stated from outside can be true: below 2^53, times at most a day ahead.
local function is_credible(d, generation, sequence, epoch)
  return sequence < 2 ^ 53 and generation <= max(now(d) + DAY, d.generation) and epoch <= max(now(d) + DAY, d.epoch)
end
