-- hash of the body, age in ms
local known = redis.call('GET', KEYS[1])
if not known then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return { 0 }
end
if string.sub(known, 1, 32) ~= ARGV[1] then return { 3 } end
if #known == 32 then return { 2 } end
return { 1, string.sub(known, 34) }
