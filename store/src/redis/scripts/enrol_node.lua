-- Nodes and join tokens of the cluster.
-- field of the node, its public key, byte of its role, token's id ('' when none is needed), most nodes
local NODES, TOKENS = KEYS[1], KEYS[2]
local call = redis.call
local field, key, role, token = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local known = call('HGET', NODES, field)
local is_removed = known and string.byte(known, 1) == 1
if known and string.sub(known, 9) == key then return is_removed and 2 or 0 end
if known and not is_removed then return 1 end
if not known and call('HLEN', NODES) >= tonumber(ARGV[5]) then return 4 end
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if token ~= '' then
  local held = call('HGET', TOKENS, token)
  if not held or string.sub(held, 1, 1) ~= role then return 3 end
  local expires, uses = struct.unpack('>I7I4', held, 2)
  if expires > 0 and expires <= now then return 3 end
  if uses == 1 then
    call('HDEL', TOKENS, token)
  elseif uses > 1 then
    call('HSET', TOKENS, token, role .. struct.pack('>I7I4', expires, uses - 1))
  end
end
call('HSET', NODES, field, '\0' .. struct.pack('>I7', now) .. key)
return 0
