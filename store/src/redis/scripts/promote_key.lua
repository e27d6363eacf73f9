-- the public key that the device proved, its mac
local known = call('HMGET', KEY, 'i', 'n')
local identity, following = known[1], known[2]
if not identity then return 4 end
if string.byte(identity, 1) == 1 then return 3 end
local proved = sub(identity, 1, 8) .. ARGV[1] .. ARGV[2]
if current_key(identity) == ARGV[1] then
  -- Its mac may be of an older secret.
  if identity ~= proved and ARGV[2] ~= '' then call('HSET', KEY, 'i', proved) end
  return 1
end
if not following or sub(following, 1, 32) ~= ARGV[1] then return 2 end
call('HSET', KEY, 'i', proved)
call('HDEL', KEY, 'n')
return 0
