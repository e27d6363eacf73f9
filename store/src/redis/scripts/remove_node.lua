-- field of the node
local known = redis.call('HGET', KEYS[1], ARGV[1])
if not known or string.byte(known, 1) == 1 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], '\1' .. string.sub(known, 2))
return 1
